import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from path_records import METADATA, no_guard
from record_strategies import texts

from pathgen.exchange.commands import FORMATS, export_run, import_file
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.questions.question import Question
from pathgen.report.validate import validate_run
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.schema import from_table
from pathgen.store.shards import write_shard

L = 6  # layers of the tiny model
FULL = list(range(L))
SETTINGS = {
    "simulations": 3,
    "layer_budget": None,
    "seconds_budget": None,
    "max_depth": 2 * L,
    "max_edits": L,
    "cost": "layers",
    "dtype": "float32",
}
usable = texts.filter(lambda text: text.strip() and "\0" not in text)  # as texts of a question must be
nats = st.floats(-100, 100, width=32)


@st.composite
def searched(draw, question_id):
    """A record as a search leaves it: full depth first, its best the cheapest right one."""
    digits = st.lists(st.integers(0, 2), min_size=L, max_size=L).map(LayerPath)
    others = draw(st.lists(digits.filter(lambda path: path != LayerPath.full(L)), max_size=6, unique=True))
    scored = draw(st.booleans())
    evaluations = [
        Evaluation(
            path,
            draw(st.booleans()),
            draw(nats),
            draw(st.tuples(nats, nats, nats)) if scored else None,
            None if scored else draw(st.none() | texts),
            simulation,
        )
        for simulation, path in enumerate([LayerPath.full(L), *others])
    ]
    right = [evaluation for evaluation in evaluations if evaluation.correct]
    best = min(right, key=lambda e: (e.path.depth, -(e.margin or 0.0), e.path), default=evaluations[0])
    choices = ("a", "b", draw(usable)) if scored else None
    gold = draw(st.integers(0, 2)) if scored else None
    question = Question(question_id, draw(usable), choices, gold, None if scored else draw(usable))
    return PathRecord(
        question=question,
        question_sha=question.sha,
        task="arc",
        status="kept" if evaluations[0].correct else "improved" if right else "unsolved",
        stop_reason=draw(st.sampled_from(["budget", "early", "exhausted"])),
        num_layers=L,
        seed=draw(st.integers(0, 2**63 - 1)),
        writer=draw(texts),
        attempts=1,
        created_ms=draw(st.integers(0, 2**41)),
        base_correct=evaluations[0].correct,
        base_margin=evaluations[0].margin,
        best_path=best.path,
        best_depth=best.path.depth,
        best_margin=best.margin,
        evaluations=evaluations,
        simulations=len(others),
        layer_executions=sum(evaluation.path.depth for evaluation in evaluations),
        layers_run=draw(st.integers(0, 1000)),
        seconds=draw(st.floats(0, 1e6, width=32)),
    )


runs = st.integers(1, 4).flatmap(lambda count: st.tuples(*(searched(f"q{number}") for number in range(count))))


def make_run(folder, records, model="tiny"):
    run = RunDirectory(str(folder))
    run.create()
    run.begin(RunInfo(SETTINGS, model, "f" * 16, "arc", "builtin", questions=len(records)), no_guard)
    write_shard(run.fs, run.paths, "w-0", 0, records, METADATA, no_guard)
    return run.out


def failed(question_id="bad"):
    question = Question(question_id, "Why?", reference="2")
    return PathRecord(question, "sha", "arc", "failed", L, 0, "w", 3, 0, error="600 tokens")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=8, deadline=None)
@given(records=runs)
def test_a_file_comes_back_the_same(name, records, tiny_model, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("trip")
    model = str(tiny_model)
    run = make_run(tmp / "run", [*records, failed()], model)
    report = export_run(run, name, str(tmp / "first"))
    kept = len(records) + (name == "jsonl")
    assert (report["records"], report["left_out"]) == (kept, len(records) + 1 - kept)

    import_file(str(tmp / "first"), name, model, "arc", str(tmp / "again"))
    again = validate_run(str(tmp / "again"), 0)
    assert (again.problems, again.records) == ([], kept)
    export_run(str(tmp / "again"), name, str(tmp / "second"))
    assert (tmp / "second").read_bytes() == (tmp / "first").read_bytes()


@settings(max_examples=8, deadline=None)
@given(records=runs)
def test_json_lines_hold_all_of_a_record(records, tiny_model, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("trip")
    export_run(make_run(tmp / "run", list(records)), "jsonl", str(tmp / "file"))
    import_file(str(tmp / "file"), "jsonl", str(tiny_model), "arc", str(tmp / "again"))
    assert from_table(RunDirectory(str(tmp / "again")).committed.table()) == list(records)


@settings(max_examples=8, deadline=None)
@given(record=searched("q"))
@pytest.mark.parametrize("name", ["dr-llm", "polar"])
def test_peers_files_keep_statuses_and_right_paths(name, record, tiny_model, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("trip")
    export_run(make_run(tmp / "run", [record]), name, str(tmp / "file"))
    import_file(str(tmp / "file"), name, str(tiny_model), "arc", str(tmp / "again"))
    (back,) = from_table(RunDirectory(str(tmp / "again")).committed.table())
    assert back.status == record.status
    assert (back.best_path, back.base_correct) == (record.best_path, record.base_correct)
    assert {e.path for e in back.evaluations if e.correct} == {e.path for e in record.evaluations if e.correct}
    assert all(e.margin is None for e in back.evaluations)
    asked, given = back.question, record.question
    assert (asked.prompt, asked.choices, asked.gold) == (given.prompt, given.choices, given.gold)
