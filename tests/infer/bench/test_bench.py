"""A whole benchmark of a tiny model: its figures, its resumption, and what it refuses before the model loads."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from bench_runs import (
    SHORT,
    make_questions,
    save_reading_router,
    save_static_router,
    saved_bridges,
    searched_records,
    write_questions,
    write_searched_run,
)
from path_runs import write_run

from cluster.program.json_codec import encoded
from infer.bench import bench as bench_module
from infer.bench import timing as bench_timing
from infer.bench.bench import Bench
from infer.bench.inputs import BenchInputs
from infer.bench.model_cost import ModelCost
from infer.bench.options import SYSTEMS, BenchOptions
from infer.bench.results import result_key
from pathgen.engine.path_model import PathModel
from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.evaluation.intervals import mcnemar_p, wilson_interval
from pathgen.models.devices import default_device
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task
from pathgen.report.headroom import headroom
from pathgen.static.static_paths import PathEntry, StaticPaths, Worth
from router.saved.layout import QUESTIONS_NAME

OWN, OTHERS = make_questions("own", 8), make_questions("other", 6)
FIGURES = (
    *("accuracy", "accuracy_ci95", "delta_vs_full", "delta_ci95", "p_value", "discordant", "mean_depth"),
    *("layers_saved", "off_full_share", "off_common_share", "tokens_per_second", "latency_ms_p50", "latency_ms_p95"),
    *("flops_ratio", "router_overhead_ratio", "cache_bytes", "peak_memory_mb", "setting"),
)
TIMES = (
    "tokens_per_second",
    "latency_ms_p50",
    "latency_ms_p95",
    "router_overhead_ratio",
)


@pytest.fixture(autouse=True)
def _few_turns(monkeypatch):
    monkeypatch.setattr(bench_timing, "TURNS", 1)
    monkeypatch.setattr(bench_module, "TIMED_QUESTIONS", 2)


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    """Questions, a searched run and routers, made once."""
    folder = tmp_path_factory.mktemp("bench")
    write_questions(folder / "q.jsonl", OWN)
    write_searched_run(folder / "paths", tiny_model, OWN + OTHERS)
    save_reading_router(folder / "router", tiny_model)
    save_static_router(folder / "gates", tiny_model, SHORT, actions=("skip", "execute"))
    return folder


@pytest.fixture(scope="module")
def options(tiny_model, folder):
    return BenchOptions(
        model=str(tiny_model),
        task="arc",
        questions=str(folder / "q.jsonl"),
        routers={"router": str(folder / "router"), "skip_gate": str(folder / "gates")},
        paths=(str(folder / "paths"),),
        quiet=True,
    )


def run(options, **changes):
    return Bench(dataclasses.replace(options, **changes), lambda line: None).run()


def by_name(outcome):
    return {system.name: system for system in outcome.figures.systems}


def given(outcome):
    """What each system answered; margins may differ by rounding."""
    return {
        name: [(answer.question_id, answer.path, answer.correct, answer.answer) for answer in answers]
        for name, answers in outcome.answers.items()
    }


def test_every_system_has_every_figure(options):
    outcome = run(options)
    assert [system.name for system in outcome.figures.systems] == list(SYSTEMS)
    json.dumps(encoded(outcome.figures), allow_nan=False)
    systems = by_name(outcome)
    full = np.array([row.correct for row in outcome.answers["full"]])
    for name, system in systems.items():
        assert list(encoded(system))[:21] == ["name", *FIGURES, "points", "skipped"]
        assert system.skipped is None
        rows = outcome.answers[name]
        correct = np.array([row.correct for row in rows])
        kept = [row.answer == other.answer for row, other in zip(rows, outcome.answers["full"], strict=True)]
        assert system.agreement == np.mean(kept)
        assert system.agreement_ci95 == wilson_interval(sum(kept), 8)
        assert [row.question_id for row in rows] == [question.id for question in OWN]
        assert system.accuracy == pytest.approx(correct.mean())
        assert system.accuracy_ci95 == pytest.approx(wilson_interval(int(correct.sum()), 8))
        assert system.mean_depth == pytest.approx(np.mean([sum(row.path) for row in rows]))
        assert system.layers_saved == pytest.approx(6 - system.mean_depth)
        assert system.off_full_share == np.mean([set(row.path) != {1} for row in rows])
        if name != "full":
            won, lost = int((correct & ~full).sum()), int((~correct & full).sum())
            assert system.discordant == (won, lost)
            assert system.p_value == pytest.approx(mcnemar_p(won, lost))
            assert system.delta_vs_full == pytest.approx(correct.mean() - full.mean())
        assert all((getattr(system, figure) is None) == (name == "oracle") for figure in TIMES[:3])
        assert (system.router_overhead_ratio is not None) == (name in ("router", "skip_gate"))
        assert (system.cache_bytes is None) == (name in ("oracle", "search"))
        assert system.peak_memory_mb is None
    assert systems["full"].flops_ratio == 1.0
    assert systems["full"].delta_vs_full is None
    assert systems["skip_gate"].flops_ratio < 0.75 < 1 < systems["repeat_block"].flops_ratio
    assert systems["search"].flops_ratio > 3
    assert systems["skip_gate"].cache_bytes == pytest.approx(systems["full"].cache_bytes * 4 / 6)


def test_the_oracle_comes_with_its_placebo(options, tiny_model):
    import polars as pl

    from pathgen.store.schema import to_table

    oracle = by_name(run(options, systems=("oracle",)))["oracle"]
    assert oracle.label == "upper bound, chosen with gold"
    records = searched_records(tiny_model, OWN)
    found = headroom(pl.DataFrame(pl.from_arrow(to_table(records))))
    wrong = sum(not record.base_correct for record in records)
    assert oracle.placebo_accuracy == pytest.approx(1 - wrong / 8 + wrong / 8 * found.placebo)
    assert 0 < found.placebo < 1


def test_the_oracle_runs_and_costs_the_bridges_of_its_search(options, tmp_path, tiny_model):
    bridges = saved_bridges(tmp_path / "bridges", tiny_model)
    paths = write_searched_run(tmp_path / "paths", tiny_model, OWN, bridges)
    changed = dataclasses.replace(options, paths=(paths,), systems=("oracle",))
    outcome = run(changed)
    found = [row.path for row in outcome.answers["oracle"]]
    assert any(0 in path for path in found)
    records = searched_records(tiny_model, OWN, bridges)
    assert found == [record.best_path for record in records]
    cost = ModelCost.of(model := PathModel.from_pretrained(str(tiny_model)), tiny_model, [
        Evaluator(model, find_task("arc")).prepare(question) for question in OWN
    ])  # fmt: skip
    bridge = 2 * 2 * 32 + 32
    layer = cost.layers[0]
    work = sum(
        tokens * sum(layer * action if action else bridge for action in path) + cost.head * scored
        for tokens, scored, path in zip(cost.tokens, cost.scored, found, strict=True)
    )
    full = float((cost.tokens * 6 * layer + cost.head * cost.scored).sum())
    assert by_name(outcome)["oracle"].flops_ratio == pytest.approx(work / full)
    plain = dataclasses.replace(inputs := BenchInputs.load(changed), searched_bridges=None)
    assert result_key("oracle", inputs, OWN, 0) != result_key("oracle", plain, OWN, 0)
    assert result_key("full", inputs, OWN, 0) == result_key("full", plain, OWN, 0)


@pytest.mark.parametrize(
    ("own", "given", "told"),
    [
        (None, None, None),
        (None, "b", None),
        ("b", "b", None),
        ("b", None, "router runs over bridges b, the others run none; `--bridges 'my router'` gives them the same"),
        ("b", "c", "router runs over bridges b, --bridges are c; `--bridges 'my router'` gives them the same"),
    ],
)
def test_rivals_without_the_routers_bridges_are_told(own, given, told):
    config = SimpleNamespace(bridges=own)
    inputs = SimpleNamespace(
        bridges=given and SimpleNamespace(digest=given),
        routers={"router": SimpleNamespace(router=SimpleNamespace(config=config))},
    )
    hint = bench_module.bridges_hint(inputs, BenchOptions(routers={"router": "my router"}))
    assert hint == (told and f"warning: {told}")
    alone = BenchOptions(routers={"router": "my router"}, systems=("router", "shuffled"))
    assert bench_module.bridges_hint(inputs, alone) is None


def test_systems_without_data_are_listed_with_the_reason(options):
    outcome = run(options, routers={}, paths=(), systems=("router", "shortgpt"))
    full, router, shortgpt = outcome.figures.systems
    assert (full.name, full.skipped) == ("full", None)
    for system in (router, shortgpt):
        assert system.skipped
        assert all(getattr(system, figure) is None for figure in FIGURES)
        assert system.points == ()
        assert system.name not in outcome.answers


def test_a_skipped_oracle_keeps_its_keys(options):
    _, oracle, router = run(options, paths=(), systems=("oracle", "router")).figures.systems
    assert "no record in --paths" in oracle.skipped
    assert (oracle.label, oracle.placebo_accuracy) == ("upper bound, chosen with gold", None)
    assert set(encoded(oracle)) - set(encoded(router)) == {"label", "placebo_accuracy"}


def counted(monkeypatch):
    """Collects the (question, path) pairs of the benchmark's own questions that are run from now on."""
    pairs = []
    evaluate = Evaluator.evaluate

    def counting(self, asked):
        own = {question.id for question in OWN}
        pairs.extend((entry.question.id, path) for entry, path in asked if entry.question.id in own)
        return evaluate(self, asked)

    monkeypatch.setattr(Evaluator, "evaluate", counting)
    return pairs


NO_SEARCH = ("router", "oracle", "static", "random", "shortgpt", "early_exit", "repeat_block", "skip_gate", "shuffled")


def test_an_interrupted_bench_goes_on_and_runs_nothing_twice(options, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    pairs = counted(monkeypatch)
    whole = run(options, systems=NO_SEARCH)
    once = sorted(pairs)
    assert len(set(once)) == len(once) > 0

    pairs.clear()
    save = bench_module.ResultStore.save

    def save_and_die(self, name, key, result):
        save(self, name, key, result)
        if name == "static":
            raise KeyboardInterrupt

    monkeypatch.setattr(bench_module.ResultStore, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(options, systems=NO_SEARCH, out=out)
    monkeypatch.setattr(bench_module.ResultStore, "save", save)
    assert 0 < len(pairs) < len(once)
    resumed = run(options, systems=NO_SEARCH, out=out)
    assert sorted(pairs) == once
    assert given(resumed) == given(whole)
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == encoded(resumed.figures)

    pairs.clear()
    again = run(options, systems=NO_SEARCH, out=out)
    assert not pairs
    assert given(again) == given(whole)
    for system, other in zip(again.figures.systems, whole.figures.systems, strict=True):
        assert [getattr(system, name) for name in FIGURES if name not in TIMES] == [
            getattr(other, name) for name in FIGURES if name not in TIMES
        ]


def test_the_same_bench_again_is_not_timed_again(options, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = run(options, systems=("router", "oracle"), out=str(out))
    monkeypatch.setattr(bench_module, "time_systems", lambda *_: pytest.fail("timed again"))
    again = run(options, systems=("router", "oracle"), out=str(out))
    assert again.figures == first.figures
    assert again.figures.systems[1].router_overhead_ratio is not None


CHANGES = [{"batch_size": 3}, {"systems": ("router", "static")}, {"limit": 4}, {"dtype": "bfloat16"}]


@pytest.mark.parametrize("changes", CHANGES)
def test_another_bench_is_timed_anew(options, tmp_path, monkeypatch, changes):
    same = {"systems": ("router",), "out": str(tmp_path / "out")}
    run(options, **same)
    timed, time_systems = [], bench_module.time_systems
    monkeypatch.setattr(bench_module, "time_systems", lambda *more: timed.append(1) or time_systems(*more))
    run(options, **{**same, **changes})
    assert timed == [1]
    monkeypatch.setattr("platform.node", lambda: "another machine")
    run(options, **{**same, **changes})
    assert timed == [1, 1]


def test_damaged_timings_are_measured_again(options, tmp_path):
    out = tmp_path / "out"
    run(options, systems=("full",), out=str(out))
    (file,) = (out / "timings").iterdir()
    for damage in (b"", b"[]", file.read_bytes()[:-9], b'{"full": {"latencies_s": [0.1]}}', b'{"full": 3}'):
        file.write_bytes(damage)
        assert by_name(run(options, systems=("full",), out=str(out)))["full"].latency_ms_p50 > 0
        assert json.loads(file.read_bytes())["full"]["tokens_per_second"] > 0


def test_the_settings_are_stored_as_they_were_resolved(options, tmp_path, folder):
    run(options, systems=("router",), limit=4, out=str(tmp_path / "out"))
    settings = json.loads((tmp_path / "out" / "bench.json").read_text())["settings"]
    assert settings == {
        "model": options.model,
        "task": "arc",
        "questions": str(folder / "q.jsonl"),
        "routers": {"router": str(folder / "router"), "skip_gate": str(folder / "gates")},
        "columns": {},
        "answers": {"max_new_tokens": 0, "stop_text": []},
        "limit": 4,
        "systems": ["full", "router"],
        "paths": [str(folder / "paths")],
        "static": None,
        "bridges": None,
        "batch_size": 8,
        "seed": 0,
        "out": str(tmp_path / "out"),
        "report": None,
        "device": default_device(),
        "dtype": "float32",
        "quiet": True,
    }


def test_other_settings_take_no_older_result(options, tmp_path, folder, tiny_model):
    out = str(tmp_path / "out")
    first = run(options, systems=("router", "random"), out=out)
    assert given(run(options, systems=("random",), out=out, seed=1))["random"] != given(first)["random"]
    assert len(run(options, systems=("router",), out=out, limit=4).answers["router"]) == 4
    other = save_static_router(tmp_path / "other", tiny_model, SHORT)
    changed = run(options, systems=("router",), out=out, routers={"router": other})
    assert {tuple(row.path) for row in changed.answers["router"]} == {SHORT}
    assert given(run(options, systems=("router", "random"), out=out)) == given(first)


def test_results_of_another_kind_of_device_are_not_taken(options):
    inputs = BenchInputs.load(options)
    keys = {
        device: result_key("full", dataclasses.replace(inputs, device=device), OWN, 0)
        for device in ("cpu", "cuda", "cuda:1")
    }
    assert keys["cpu"] != keys["cuda"] == keys["cuda:1"]


def test_a_damaged_result_is_run_again(options, tmp_path):
    out = tmp_path / "out"
    first = run(options, systems=("full",), out=str(out))
    (file,) = (out / "systems").iterdir()
    content = file.read_bytes()
    for damage in (b"", content[:-40], content.replace(b'"correct"', b'"wrong"'), content.split(b"\n")[0]):
        file.write_bytes(damage)
        assert given(run(options, systems=("full",), out=str(out))) == given(first)
        assert file.read_bytes() == content


def test_a_static_file_is_used_as_it_is(options, tiny_model, tmp_path):
    full, short = (PathEntry(path, a, a, a, a - 0.4, 0.1) for path, a in ((LayerPath.full(6), 0.4), (SHORT, 0.6)))
    model, worth = (str(tiny_model), fingerprint(tiny_model)), Worth(0.6, 0.2, 0.1)
    shas = tuple(question.sha for question in (*OWN[:3], *OTHERS))
    paths = StaticPaths(*model, ("arc",), False, 6, 9, 3, 0, full, (short,), worth, worth, shas, ())
    (tmp_path / "static.json").write_bytes(paths.to_json())
    outcome = run(options, static=str(tmp_path / "static.json"), paths=(), systems=("static", "repeat_block"))
    assert {tuple(row.path) for row in outcome.answers["static"]} == {SHORT}
    assert by_name(outcome)["static"].setting == str(SHORT)
    assert outcome.figures.seen_in_training == 3
    (tmp_path / "static.json").write_bytes(dataclasses.replace(paths, fingerprint="0" * 16).to_json())
    with pytest.raises(ArtefactError, match="run `pathgen static` on its own paths"):
        run(options, static=str(tmp_path / "static.json"))


def test_named_routers_are_systems_of_their_own(options, folder):
    outcome = run(options, routers={"mine": str(folder / "gates")}, systems=("mine", "random"))
    assert [system.name for system in outcome.figures.systems] == ["full", "mine", "random"]
    assert by_name(outcome)["random"].mean_depth == by_name(outcome)["mine"].mean_depth == 4


def test_questions_seen_in_training_are_told(options, tmp_path, tiny_model):
    router = save_static_router(tmp_path / "router", tiny_model, SHORT)
    seen = {"trained_on": [OWN[0].sha, OTHERS[0].sha], "chosen_on": [OWN[3].sha]}
    (tmp_path / "router" / QUESTIONS_NAME).write_text(json.dumps(seen))
    told = []
    changed = dataclasses.replace(options, routers={"router": router}, systems=("router",))
    outcome = Bench(changed, told.append).run()
    assert outcome.figures.seen_in_training == 2
    assert told == [
        f"{options.questions}: answers are indices from 0",
        "warning: 2 of 8 questions took part in training or choosing",
    ]
    assert run(options, systems=("full",)).figures.seen_in_training == 0


def test_a_record_that_asks_what_the_bench_asks_fits_nothing(options, tmp_path, tiny_model):
    twin = dataclasses.replace(OWN[0], id="twin", prompt=f" {OWN[0].prompt.upper()}", choices=("cork", "iron"), gold=1)
    paths = write_searched_run(tmp_path / "paths", tiny_model, [*OWN[:2], twin, *OTHERS])
    inputs = BenchInputs.load(dataclasses.replace(options, paths=(paths,)))
    assert {record.question.id for record in inputs.fit} == {question.id for question in OTHERS}
    assert set(inputs.records) == {question.sha for question in OWN[:2]}


def test_questions_too_long_are_left_out(options, tmp_path):
    long = dataclasses.replace(OWN[0], id="long", prompt="x" * 600)
    outcome = run(options, questions=write_questions(tmp_path / "q.jsonl", [*OWN[:3], long]), systems=("full",))
    assert (outcome.figures.questions, outcome.left_out) == (3, 1)


@pytest.mark.parametrize(("task", "answer"), [("arc", len(" iron bar")), ("math", 32)])
def test_that_no_question_fits_is_found_before_the_model_loads(options, tmp_path, monkeypatch, task, answer):
    monkeypatch.setattr(bench_module.PathModel, "from_pretrained", lambda *_, **__: pytest.fail("the model loads"))

    def load(length):
        row = {"question": "x" * length, "choices": OWN[0].choices, "answer": "0"}
        (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
        changed = dataclasses.replace(options, task=task, questions=str(tmp_path / "q.jsonl"), paths=())
        return Bench(changed, lambda line: None)

    fits = 512 - len("Question: \nAnswer:") - answer  # a token is a byte
    assert len(load(fits).inputs.questions) == 1
    with pytest.raises(InputError, match="none of the 1 questions fits the model's context of 512 tokens"):
        load(fits + 1)


def test_that_no_question_can_be_asked_for_another_reason_is_told(options, monkeypatch):
    monkeypatch.setattr(bench_module, "askable", lambda *_: [])
    with pytest.raises(InputError, match="none of the 8 questions can be asked: each is too long, or has no tokens"):
        run(options, systems=("full",))


def test_generated_answers_are_benched_too(options, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_module, "TIMED_QUESTIONS", 1)
    gates = save_static_router(tmp_path / "gates", tiny_model, SHORT, actions=("skip", "execute"))
    outcome = run(
        options, task="math", questions="builtin-math:test", limit=2, routers={"skip_gate": gates}, paths=(),
        systems=("skip_gate", "early_exit", "search"),
    )  # fmt: skip
    systems = by_name(outcome)
    assert systems["skip_gate"].mean_depth == 4
    assert systems["skip_gate"].tokens_per_second > 0
    assert systems["skip_gate"].cache_bytes > 0
    assert "generates" in systems["search"].skipped
    assert outcome.questions[0].choices is None
    assert isinstance(outcome.answers["full"][0].answer, str)
    for name in ("full", "skip_gate", "early_exit"):  # a random model goes on and on
        assert systems[name].cut == sum(row.cut for row in outcome.answers[name]) > 0
    assert by_name(run(options, systems=("full",)))["full"].cut is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"systems": ("magic",)}, "unknown system 'magic'; systems are full, router, oracle, static, random"),
        ({"task": "magic"}, "unknown task"),
        ({"device": "tpu"}, "--device must be"),
        ({"dtype": "int8"}, "--dtype must be"),
        ({"report": "."}, "is a folder"),
        ({"report": "/proc/below/bench.html"}, "--report /proc/below/bench.html cannot be written"),
        ({"out": "/proc/below"}, "--out /proc/below cannot be written"),
        ({"questions": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"routers": {"router": "nowhere/at/all"}}, "there is no router folder"),
        ({"static": "nowhere.json"}, "nowhere.json cannot be read"),
        ({"paths": ("nowhere",)}, "holds no run"),
    ],
)
def test_wrong_use_is_refused_before_the_model_loads(options, monkeypatch, changes, message):
    monkeypatch.setattr(bench_module.PathModel, "from_pretrained", lambda *_, **__: pytest.fail("the model loads"))
    with pytest.raises(InputError, match=message):
        run(options, **changes)


def test_gates_that_may_repeat_are_no_gates(options, folder):
    with pytest.raises(InputError, match="--actions skip,execute"):
        BenchInputs.load(dataclasses.replace(options, routers={"skip_gate": str(folder / "router")}))


def test_artefacts_of_another_model_are_refused(options, tiny_model, tmp_path):
    router = save_static_router(tmp_path / "router", tiny_model, SHORT)
    config = tmp_path / "router" / "config.json"
    config.write_text(config.read_text().replace(fingerprint(tiny_model), "0" * 16))
    with pytest.raises(ArtefactError, match="with fingerprint"):
        run(options, routers={"router": router})
    paths = write_run(tmp_path / "paths", searched_records(tiny_model, OWN[:2]), fingerprint="0" * 16)
    with pytest.raises(ArtefactError, match=r"--model .* has fingerprint"):
        run(options, paths=(paths,))


def test_chat_and_plain_prompts_do_not_mix(options, tiny_model, tmp_path):
    router = save_static_router(tmp_path / "router", tiny_model, SHORT, chat=True)
    with pytest.raises(ArtefactError, match="router router went through the chat template, the others not"):
        run(options, routers={"router": router})


@pytest.mark.parametrize("make", [lambda out: out.write_text("x"), lambda out: (out / "sub").mkdir(parents=True)])
def test_an_out_that_is_something_else_is_refused(options, tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(InputError, match=r"--out .* (is a file|holds sub)"):
        run(options, out=str(tmp_path / "out"))
