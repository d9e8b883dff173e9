"""`pathgen static --target divergence`, and `--bridges`, on a tiny model: the file, its halves, and what is refused."""

from __future__ import annotations

import json
import shutil
from itertools import combinations

import numpy as np
import pytest
import torch
from commands import pathgen, question, write_questions
from searched_runs import FULL, choice_questions, write_run
from tiny_checkpoint import NUM_LAYERS

from pathgen.bridges.folder import load_bridges, local_reader, read_info, save_bridges
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.divergence import DivergenceMeter
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.static.divergence_paths import DivergencePaths
from pathgen.static.draw import draw_halves
from pathgen.static.static_paths import load_static

QUESTIONS = 12
LAYER_VALUES = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
"""Of a layer of the tiny model: attention with two of four heads for keys and values, MLP, norms."""


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of questions without gold."""
    rows = [question(f"q{i}", f"Which of {i} floats?") for i in range(QUESTIONS)]
    for row in rows:
        del row["answer"]
    return write_questions(tmp_path_factory.mktemp("text") / "text.jsonl", *rows)


@pytest.fixture(scope="module")
def bridges(tmp_path_factory, tiny_model):
    return save_random_bridges(tmp_path_factory.mktemp("bridges") / "b", str(tiny_model), fingerprint(tiny_model))


def save_random_bridges(folder, model_id, print_, along=None):
    """A folder of bridges that change what a skip does, as if they were fitted along a path."""
    made = torch.Generator().manual_seed(1)
    maps = tuple(
        Bridge(*(0.3 * torch.randn(shape, generator=made) for shape in ((4, 32), (32, 4), (32,))))
        for _ in range(NUM_LAYERS)
    )
    info = BridgesInfo(model_id, print_, NUM_LAYERS, 32, 4, 0.1, (), 9, (0.5,) * NUM_LAYERS, "", along)
    save_bridges(Bridges(maps), info, folder)
    return folder


def call(out, *flags):
    return pathgen("static", "--target", "divergence", "--out", out, "--threads", 1, "--quiet", *flags)


def read(out) -> DivergencePaths:
    found = load_static(str(out))
    assert isinstance(found, DivergencePaths)
    return found


def test_it_needs_no_labels_and_the_chosen_sets_are_nearly_the_best_there_are(tiny_model, text, tmp_path, model):
    out = tmp_path / "static.json"
    answer = call(out, "--model", tiny_model, "--text", text, "--task", "arc", "--depth", 3)
    assert answer.code == 0
    found = read(out)
    assert [entry.depth for entry in found.frontier] == [3, 4, 5]
    assert {entry.accuracy for entry in (found.full, *found.frontier)} == {None}
    assert (found.full.path, found.full.divergence, found.full.agreement) == (FULL, 0, 1)
    assert f"next: infer export --static {out} --depth" in answer.stdout

    evaluator = Evaluator(model, find_task("arc"))
    rows = [json.loads(line) for line in text.read_text().splitlines()]
    asked = [Question(row["id"], row["question"], tuple(row["choices"])) for row in rows]
    halves = [[evaluator.prepare(q) for q in asked if q.sha in shas] for shas in (found.searched_on, found.judged_on)]
    assert [len(half) for half in halves] == [QUESTIONS / 2] * 2
    for entry in found.frontier:
        every = [
            LayerPath(int(layer not in skips) for layer in range(NUM_LAYERS))
            for skips in combinations(range(NUM_LAYERS), NUM_LAYERS - entry.depth)
        ]
        searched, judged = (
            np.array([[one.divergence for one in row] for row in DivergenceMeter(evaluator).measure(half, every)])
            for half in halves
        )
        place = every.index(entry.path)
        assert searched[:, place].mean() <= 1.1 * searched.mean(axis=0).min()
        assert entry.divergence == pytest.approx(judged[:, place].mean(), rel=1e-3)
        assert entry.divergence_se == pytest.approx(judged[:, place].std(ddof=1) / len(judged) ** 0.5, rel=1e-2)
        assert entry.flops_ratio == pytest.approx(entry.depth / NUM_LAYERS)
    assert found.forward_tokens > 0


def test_json_is_the_file_and_a_second_call_finds_the_same(tiny_model, text, tmp_path):
    flags = ("--model", tiny_model, "--text", text, "--limit", 6, "--task", "arc-letter")
    answer = call(tmp_path / "a.json", *flags, "--json")
    assert answer.json == {"out": str(tmp_path / "a.json"), **json.loads((tmp_path / "a.json").read_bytes())}
    first = answer.json["frontier"][0]
    assert {"depth", "path", "divergence", "agreement", "accuracy", "flops_ratio"} <= first.keys()
    assert (answer.json["target"], answer.json["bridges"], answer.json["questions"]) == ("divergence", None, 3)
    assert call(tmp_path / "b.json", *flags).code == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_questions_of_runs_have_labels(tiny_model, tmp_path, model):
    evaluator = Evaluator(model, find_task("arc"))
    run = write_run(tmp_path / "run", tiny_model, evaluator, choice_questions(10), paths=[])
    out = tmp_path / "static.json"
    assert call(out, "--paths", run).code == 0
    found = read(out)
    judged = [evaluator.prepare(q) for q in choice_questions(10) if q.sha in found.judged_on]
    for entry in (found.full, *found.frontier):
        right = [one.correct for one in evaluator.evaluate([(each, entry.path) for each in judged])]
        assert entry.accuracy == pytest.approx(sum(right) / len(right))
    assert not set(found.searched_on) & set(found.judged_on)
    assert len(found.chosen_on) == 10


def test_bridges_run_where_paths_skip_and_cost_what_they_cost(tiny_model, text, bridges, tmp_path):
    flags = ("--model", tiny_model, "--text", text, "--task", "arc", "--depth", 5)
    assert call(tmp_path / "plain.json", *flags).code == 0
    answer = call(tmp_path / "bridged.json", *flags, "--bridges", bridges)
    plain, found = read(tmp_path / "plain.json"), read(tmp_path / "bridged.json")
    assert (plain.bridges, found.bridges) == (None, read_info(local_reader(bridges), "b").digest)
    assert f"next: pathgen bridge --model {tiny_model} --along {tmp_path / 'bridged.json'} --depth 5" in answer.stdout
    ((entry,), (without,)) = found.frontier, plain.frontier
    assert entry.divergence != pytest.approx(without.divergence, rel=1e-2)
    assert entry.flops_ratio == pytest.approx((5 * 2 * LAYER_VALUES + 2 * (2 * 4 * 32 + 32)) / (6 * 2 * LAYER_VALUES))


def test_with_bridges_refitted_along_a_path_that_path_alone_is_measured(tiny_model, text, tmp_path, model):
    path = LayerPath.parse("..-.-.")
    refitted = save_random_bridges(tmp_path / "refitted", str(tiny_model), fingerprint(tiny_model), str(path))
    flags = ("--model", tiny_model, "--text", text, "--task", "arc", "--bridges", refitted)
    answer = call(tmp_path / "one.json", *flags)
    assert "pathgen bridge" not in answer.stdout
    assert f"next: infer export --static {tmp_path / 'one.json'} --depth 4" in answer.stdout
    found = read(tmp_path / "one.json")
    (entry,) = found.frontier
    assert entry.path == path
    evaluator = Evaluator(model, find_task("arc"))
    rows = [Question(row["id"], row["question"], tuple(row["choices"])) for row in map(json.loads, text.open())]
    judged = [evaluator.prepare(q) for q in rows if q.sha in found.judged_on]
    with model.bridged(load_bridges(refitted)):
        measured = [row[0].divergence for row in DivergenceMeter(evaluator).measure(judged, [path])]
    assert entry.divergence == pytest.approx(np.mean(measured), rel=1e-3)
    other = call(tmp_path / "two.json", *flags, "--depth", 3)
    assert (other.code, "--depth 3: the bridges were fitted along ..-.-., of depth 4" in other.error) == (2, True)


def test_text_goes_through_the_chat_template(tiny_model, text, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.content }}>{% endfor %} Well,")
    flags = ("--model", folder, "--text", text, "--task", "arc", "--depth", 5)
    assert call(tmp_path / "plain.json", *flags).code == 0
    assert call(tmp_path / "chat.json", *flags, "--chat").code == 0
    plain, chat = read(tmp_path / "plain.json"), read(tmp_path / "chat.json")
    assert (plain.chat, chat.chat) == (False, True)
    evaluator = Evaluator(PathModel.from_pretrained(str(folder)), find_task("arc"), chat=True)
    rows = [Question(row["id"], row["question"], tuple(row["choices"])) for row in map(json.loads, text.open())]
    judged = [evaluator.prepare(q) for q in rows if q.sha in chat.judged_on]
    (entry,) = chat.frontier
    found = [row[0].divergence for row in DivergenceMeter(evaluator).measure(judged, [entry.path])]
    assert entry.divergence == pytest.approx(np.mean(found), rel=1e-3)
    assert entry.divergence != pytest.approx(plain.frontier[0].divergence, rel=1e-2)


def test_accuracy_with_bridges_takes_no_answer_of_a_search_without_but_of_full_depth(
    tiny_model, bridges, tmp_path, model, monkeypatch
):
    run = write_run(tmp_path / "run", tiny_model, Evaluator(model, find_task("arc")), choice_questions(9))
    asked: list[LayerPath] = []
    evaluate = Evaluator.evaluate

    def counted(self, pairs):
        assert self.model.bridges is not None
        asked.extend(path for _, path in pairs)
        return evaluate(self, pairs)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    flags = ("static", "--paths", run, "--threads", 1, "--quiet", "--candidates", 12)
    assert pathgen(*flags, "--out", tmp_path / "one.json", "--bridges", bridges).code == 0
    skips = {path for path in asked if 0 in path}
    assert {path for path in skips if path.edits == 1}, "single skips that the search ran without bridges run again"
    assert all(0 in path or path.edits > 1 for path in asked), "what skips nothing is known from the search"
    assert load_static(str(tmp_path / "one.json")).bridges == read_info(local_reader(bridges), "b").digest
    asked.clear()
    assert pathgen(*flags, "--out", tmp_path / "two.json", "--bridges", bridges).code == 0
    assert not asked
    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    assert pathgen(*flags, "--out", tmp_path / "plain.json").code == 0
    assert len(list((tmp_path / "run" / "static").glob("*.parquet"))) == 2, "answers with bridges have their own file"


def test_halves_are_disjoint_spread_over_the_sources_and_drawn_by_the_seed():
    sources = [
        [Question(f"{name}{i}", f"{name} {i}?", ("a", "b")) for i in range(n)] for name, n in (("x", 40), ("y", 9))
    ]
    again = [Question(f"again{i}", f"x {i}?", ("a", "b")) for i in range(40)]
    searched, held_out = draw_halves([*sources, again], 0, 20)
    sides = [{entry.question.sha for entry in side} for side in (searched, held_out)]
    assert not sides[0] & sides[1]
    assert (len(sides[0]), len(sides[1])) == (len(searched), len(held_out)) == (15, 14)
    assert {entry.run for entry in searched[:4]} == {0, 1}
    other, _ = draw_halves([*sources, again], 1, 20)
    assert {entry.question.sha for entry in other} != sides[0]


def test_wrong_use_is_one_line_and_leaves_no_file(tiny_model, text, bridges, tmp_path):
    out = tmp_path / "static.json"
    asked = ("--model", tiny_model, "--text", text, "--task", "arc")
    few = write_questions(tmp_path / "few.jsonl", *[question(f"q{i}", f"{i}?") for i in range(3)])
    other = save_random_bridges(tmp_path / "other", "other", "0" * 16)
    for flags, code, reason in (
        ((), 2, "--target divergence needs questions: give --paths, or --model and --text, not both"),
        (("--text", text), 2, "--model is missing"),
        (("--paths", "run", *asked), 2, "not both"),
        (("--paths", "run", "--task", "arc"), 2, "--task goes with --text"),
        (("--paths", "run", "--chat"), 2, "--chat goes with --text"),
        ((*asked, "--chat"), 2, "--chat needs a model whose tokenizer has a chat template"),
        ((*asked, "--depth", 6), 2, "has 6 layers, so a path that skips has at most 5"),
        ((*asked[:2], "--text", few), 2, "3 different questions are too few: 4 are needed"),
        ((*asked, "--text", text), 2, "--text names a source twice"),
        ((*asked[:4], "--task", "chess"), 2, "unknown task 'chess'"),
        ((*asked[:4], "--task", "math"), 2, "no column for reference"),
        ((*asked, "--bridges", tmp_path / "none"), 2, "holds no bridges"),
        ((*asked, "--bridges", other), 4, "holds bridges of other (0000000000000000)"),
    ):
        answer = call(out, *flags)
        assert (answer.code, reason in answer.error) == (code, True), answer.error
    for flags, reason in (
        (("--paths", "run", "--text", text), "--text goes with --target divergence"),
        ((), "--paths is missing"),
    ):
        answer = pathgen("static", "--out", out, *flags)
        assert (answer.code, reason in answer.error) == (2, True), answer.error
    assert call(tmp_path, *asked).code == 2
    assert not out.exists()
