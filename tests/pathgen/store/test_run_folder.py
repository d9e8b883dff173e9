import json
import os
import uuid
from functools import partial

import polars as pl
import pyarrow as pa
import pytest
from path_records import METADATA, make_record, no_guard

from pathgen.errors import ArtefactError, InputError
from pathgen.store.compaction import compact
from pathgen.store.dataset_card import write_card
from pathgen.store.folder_lock import LeaseLost
from pathgen.store.index import Budgets, read_tables
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import list_shards, write_progress, write_shard

INFO = RunInfo({"simulations": 3, "layer_budget": None, "max_edits": 8}, "tiny", "f" * 16, "arc", "builtin", {"n": 1})
BUDGETS = Budgets(simulations=3, layer_executions=None, seconds=None, max_depth=8)


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path):
    """A run's folder, begun."""
    run = RunDirectory(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")
    run.create()
    run.begin(INFO, no_guard)
    return run


def shard(run, *records, writer="w-0", seq=0):
    return "paths/" + write_shard(run.fs, run.paths, writer, seq, records, METADATA, no_guard)


def progress(run, *records, writer="w-0"):
    write_progress(run.fs, run.root, writer, records, METADATA, no_guard)
    return f".progress/{writer}.parquet"


def lost():
    raise LeaseLost("another run holds it")


def shas(*ids):
    return {id_: f"sha-{id_}" for id_ in ids}


# --- the folder -------------------------------------------------------------------------------------------


def test_a_file_is_refused(tmp_path):
    (tmp_path / "x").write_text("")
    for out in (tmp_path / "x", tmp_path / "x" / "below"):
        with pytest.raises(InputError, match="--out") as caught:
            RunDirectory(str(out)).create()
        assert caught.value.exit_code == 2


def test_a_place_that_cannot_be_written_is_refused():
    with pytest.raises(InputError, match="cannot be written"):
        RunDirectory("/proc/layerpaths").create()


@pytest.mark.parametrize("foreign", ["notes.txt", "README.md", "paths/part-w-0-00000-0123456789abcdef.parquet"])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, foreign):
    (tmp_path / "paths").mkdir()
    (tmp_path / foreign).write_text("mine")
    with pytest.raises(InputError, match=foreign.split("-")[0]):
        RunDirectory(str(tmp_path)).create()
    assert (tmp_path / foreign).read_text() == "mine"
    assert len(os.listdir(tmp_path)) <= 2


def test_a_run_that_was_killed_before_run_json_can_begin_again(tmp_path):
    for name in (".lease.json", ".tmp-0123"):
        (tmp_path / name).write_text("")
    run = RunDirectory(str(tmp_path))
    run.create()
    run.begin(INFO, no_guard)
    assert sorted(os.listdir(tmp_path)) == [".lease.json", "paths", "run.json"]


def test_checking_writes_nothing(tmp_path):
    RunDirectory(str(tmp_path / "new")).check_usable()
    assert RunDirectory(str(tmp_path / "new")).check_settings(INFO) == INFO
    assert os.listdir(tmp_path) == []


# --- run.json ---------------------------------------------------------------------------------------------


def changed(info=INFO, **changes):
    fields = {name: getattr(info, name) for name in RunInfo.__dataclass_fields__}
    return RunInfo(**(fields | changes))


def with_settings(**settings):
    return changed(settings=INFO.settings | settings)


def test_the_same_settings_go_on(run):
    assert run.begin(INFO, no_guard) == run.info() == INFO


def test_budgets_rise_and_a_lower_wish_changes_nothing(run):
    assert run.begin(with_settings(simulations=5), no_guard).settings["simulations"] == 5
    assert run.begin(with_settings(simulations=2, layer_budget=100), no_guard).settings == INFO.settings | {
        "simulations": 5
    }
    assert run.info().settings == INFO.settings | {"simulations": 5}


def test_the_source_may_change_and_the_first_notes_stay(run):
    info = run.begin(changed(source="more.jsonl", notes={"n": 2, "m": 3}), no_guard)
    assert (info.source, info.notes) == ("more.jsonl", {"n": 1, "m": 3})


@pytest.mark.parametrize(
    ("wanted", "row"),
    [
        (changed(fingerprint="0" * 16), ("model fingerprint", "f" * 16, "0" * 16)),
        (changed(task="math"), ("task", "arc", "math")),
        (with_settings(max_edits=9), ("max_edits", "8", "9")),
        (with_settings(seed=1), ("seed", "-", "1")),
    ],
)
def test_any_other_difference_is_refused_with_a_table(run, wanted, row):
    for act in (run.check_settings, partial(run.begin, guard=no_guard)):
        with pytest.raises(ArtefactError) as caught:
            act(wanted)
        assert caught.value.exit_code == 4
        first, head, *rows = str(caught.value).split("\n")
        assert run.out in first
        assert head.split() == ["field", "stored", "wanted"]
        assert " ".join(rows[0].split()) == " ".join(row)
        assert len(rows) == 1
    assert run.info() == INFO


def test_settings_are_compared_as_json(run):
    run.fs.rm_file(f"{run.root}/run.json")
    run.begin(with_settings(columns=("a", "b")), no_guard)
    run.begin(with_settings(columns=["a", "b"]), no_guard)


def test_a_newer_or_damaged_run_json_is_refused(run):
    path = f"{run.root}/run.json"
    content = json.loads(run.fs.cat_file(path))
    run.fs.pipe_file(path, json.dumps(content | {"schema_version": 2}).encode())
    with pytest.raises(ArtefactError, match="schema version 2"):
        run.begin(INFO, no_guard)
    run.fs.pipe_file(path, b'{"schema')
    with pytest.raises(ArtefactError, match="damaged"):
        run.begin(INFO, no_guard)


def test_no_run_is_named_as_such(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        RunDirectory(str(tmp_path)).info()


# --- scan -------------------------------------------------------------------------------------------------


def test_a_new_run_has_nothing(run):
    plan = run.scan(shas("a"), BUDGETS)
    assert (plan.done, plan.resume, plan.failed, plan.quarantined) == (frozenset(), {}, {}, [])


def test_done_resume_failed_and_others(run):
    first = shard(run, make_record("done"), make_record("small", 2), make_record("bad", status="failed", attempts=3))
    shard(run, make_record("other"), make_record("early", 1, stop_reason="early"), seq=1)
    shard(run, make_record("closed", 1, stop_reason="exhausted"), seq=2)
    later = progress(
        run,
        make_record("small", 2, "searching"),
        make_record("half", 1, "searching"),
        make_record("unshelved", 3),
        make_record("done", 9, "searching"),
    )
    plan = run.scan(shas("done", "small", "bad", "early", "closed", "half", "unshelved", "new"), BUDGETS)
    assert plan.done == {"done", "early", "closed"}
    assert plan.resume == {"small": [first, later], "half": [later], "unshelved": [later]}
    assert plan.failed == {"bad": 3}
    assert plan.superseded == 0


@pytest.mark.parametrize(
    ("budgets", "is_done"),
    [
        (Budgets(3, None, None, 8), True),
        (Budgets(2, None, None, 8), True),
        (Budgets(4, None, None, 8), False),
        (Budgets(4, 100, None, 8), True),
        (Budgets(4, 107, None, 8), True),  # 100 spent: the deepest path no longer fits
        (Budgets(4, 108, None, 8), False),
        (Budgets(4, None, 0.1, 8), True),  # 0.1 as float32
        (Budgets(4, 108, 0.2, 8), False),
    ],
)
def test_done_is_any_wanted_budget_reached(run, budgets, is_done):
    shard(run, make_record("a", 3, layer_executions=100, seconds=0.1))
    assert (run.scan(shas("a"), budgets).done == {"a"}) == is_done


def test_of_several_records_the_unfailed_then_the_longest_then_the_first_counts(run):
    shard(run, make_record("a", status="failed"), make_record("b", 5, task="b5"), make_record("c", 3, task="c0"))
    shard(run, make_record("a", 1, task="a1"), make_record("b", 2), make_record("c", 3), writer="w-1")
    shard(run, make_record("a", 3, task="a3"), make_record("b", status="failed"), make_record("c", 3), seq=1)
    plan = run.scan(shas("a", "b", "c"), BUDGETS)
    assert (plan.done, plan.failed, plan.superseded) == ({"a", "b", "c"}, {}, 6)
    rows = run.committed.table(["question_id", "task"]).to_pylist()
    assert sorted(row["task"] for row in rows) == ["a3", "b5", "c0"]


def test_of_several_failed_records_the_one_of_most_attempts_counts(run):
    for writer, attempts in (("w-0", 1), ("w-1", 3), ("w-2", 2)):
        shard(run, make_record("a", status="failed", attempts=attempts), writer=writer)
    assert run.committed.table(["attempts"])["attempts"].to_pylist() == [3]


def test_an_edited_question_is_refused(run):
    shard(run, *(make_record(f"q{i}") for i in range(7)))
    progress(run, make_record("p"))
    with pytest.raises(ArtefactError, match=r"7 questions were edited .*q0, q1, q2, q3, q4, …"):
        run.scan({f"q{i}": "other" for i in range(7)} | shas("p"), BUDGETS)
    with pytest.raises(ArtefactError, match=r"\(p\)"):
        run.scan({"p": "other"}, BUDGETS)


def test_unreadable_files_are_quarantined_named_and_searched_again(run):
    good, bad = shard(run, make_record("a")), shard(run, make_record("b"), seq=1)
    worse = progress(run, make_record("c", status="searching"))
    for file, content in ((bad, run.fs.cat_file(f"{run.root}/{bad}")[:-1]), (worse, b"")):
        run.fs.pipe_file(f"{run.root}/{file}", content)
    run.fs.pipe_file(f"{run.paths}/foreign.parquet", b"PAR1")
    with pytest.raises(ArtefactError, match="2 unreadable"):
        run.committed.table()
    in_place = run.scan(shas("a", "b", "c"), BUDGETS)
    assert (in_place.done, {line.split("; ")[-1] for line in in_place.quarantined}) == (
        {"a"},
        {"a run would set it aside"},
    )
    with pytest.raises(LeaseLost):
        run.scan(shas("a", "b", "c"), BUDGETS, guard=lost)
    plan = run.scan(shas("a", "b", "c"), BUDGETS, guard=no_guard)
    assert (plan.done, plan.resume) == ({"a"}, {})
    assert sorted(line.split(":")[0] for line in plan.quarantined) == sorted(
        ["foreign.parquet", bad.removeprefix("paths/"), "w-0.parquet"]
    )
    assert run.scan(shas("a"), BUDGETS).quarantined == []
    assert run.committed.table(["question_id"]).to_pydict() == {"question_id": ["a"]}
    assert list_shards(run.fs, run.paths) == [good.removeprefix("paths/")]


def test_the_files_of_one_writer(run):
    shard(run, make_record("a"), writer="w-1")
    shard(run, make_record("b"), writer="w-2")
    mine = progress(run, make_record("c", 2, "searching"), writer="w-1")
    progress(run, make_record("d", 2, "searching"), writer="w-2")
    plan = run.scan(shas("a", "b", "c", "d"), BUDGETS, writer="w-1")
    assert (plan.done, plan.resume) == ({"a"}, {"c": [mine]})


def test_the_best_stored_record_is_loaded(run):
    small = shard(run, make_record("a", 1), make_record("b", 9), make_record("f", status="failed"))
    large = progress(run, make_record("a", 2, "searching"))
    assert run.load_record([small, large], "a") == make_record("a", 2, "searching")
    assert run.load_record([small], "a") == make_record("a", 1)
    assert run.load_record([small, large, "paths/gone.parquet"], "f") is None
    run.fs.pipe_file(f"{run.root}/{large}", b"")
    assert run.load_record([small, large], "a") == make_record("a", 1)


def test_an_empty_run_reads_as_an_empty_table(run):
    assert run.committed.table(["question_id"]).num_rows == 0


def test_batches_are_the_table_a_shard_at_a_time(run):
    shard(run, make_record("a"), make_record("b", 2), make_record("f", status="failed"))
    shard(run, make_record("c"), make_record("b", 5), seq=1)
    shard(run, make_record("b", 1), seq=2)
    batches = list(run.committed.batches())
    assert [batch["question_id"].to_pylist() for batch in batches] == [["a", "f"], ["c", "b"]]
    assert pa.concat_tables(batches).equals(run.committed.table())
    assert [batch.column_names for batch in run.committed.batches(["task", "seed"])] == [["task", "seed"]] * 2


def test_batches_of_an_empty_run_are_none(run):
    assert list(run.committed.batches()) == []


def test_batches_decode_the_rows_of_few_shards_at_a_time(run, monkeypatch):
    for seq in range(5):
        shard(run, make_record(f"q{seq}"), seq=seq)
    decoded = []

    def watched(fs, out, files, columns):
        if "evaluations" in columns:
            decoded.append(len(files))
        return read_tables(fs, out, files, columns)

    monkeypatch.setattr("pathgen.store.committed.read_tables", watched)
    monkeypatch.setattr("pathgen.store.committed.READERS", 2)
    for given, batch in enumerate(run.committed.batches(), start=1):
        assert batch.num_rows == 1
        assert decoded == [2, 2, 1][: (given + 1) // 2]


def test_a_record_is_found_without_decoding_the_others(run, monkeypatch):
    shard(run, make_record("a"), make_record("b", 1))
    shard(run, make_record("b", 3), seq=1)
    decoded = []

    def watched(fs, out, files, columns):
        decoded.extend(files if "evaluations" in columns else ())
        return read_tables(fs, out, files, columns)

    monkeypatch.setattr("pathgen.store.committed.read_tables", watched)
    found = run.committed.find("b")
    assert [file.split("-")[3] for file in decoded] == ["00001"]
    assert found == run.committed.table().to_pylist()[1]
    assert found["simulations"] == 3
    assert run.committed.find("z") is None


def test_batches_give_each_question_once_while_shards_are_replaced(run, monkeypatch):
    monkeypatch.setattr("pathgen.store.committed.READERS", 1)
    shard(run, make_record("a"), make_record("b", 1))
    shard(run, make_record("b", 3), make_record("c"), seq=1)
    shard(run, make_record("c", 2), make_record("d"), seq=2)
    batches = run.committed.batches(["question_id"])
    ids = next(batches)["question_id"].to_pylist()
    compact(run.fs, run.root, no_guard)
    shard(run, make_record("e"), seq=3)
    for batch in batches:
        ids += batch["question_id"].to_pylist()
    assert sorted(ids) == ["a", "b", "c", "d", "e"]


def test_batches_refuse_an_unreadable_shard(run):
    shard(run, make_record("a"))
    bad = shard(run, make_record("b"), seq=1)
    run.fs.pipe_file(f"{run.root}/{bad}", b"PAR1")
    with pytest.raises(ArtefactError, match="1 unreadable"):
        next(run.committed.batches())


def test_a_link_to_nowhere_among_the_shards_is_named(tmp_path):
    """As a copied snapshot of a dataset may hold; it is listed, and gone whenever one looks."""
    run = RunDirectory(str(tmp_path))
    run.create()
    (tmp_path / "paths/part-w-0-00000-0123456789abcdef.parquet").symlink_to(tmp_path / "nowhere")
    for read in (run.committed.table, lambda: list(run.committed.batches()), lambda: run.scan(shas("a"), BUDGETS)):
        with pytest.raises(ArtefactError, match=r"part-w-0-.* is listed and cannot be opened; remove it"):
            read()


# --- other programs ---------------------------------------------------------------------------------------


def test_a_finished_folder_is_a_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    info = run.begin(INFO, no_guard)
    write_card(run.fs, run.root, info, {}, no_guard)
    shard(run, make_record("a"), make_record("b", status="failed"))
    shard(run, make_record("c"), seq=1)
    progress(run, make_record("d", status="searching"))
    write_card(run.fs, run.root, info, {"base_accuracy": 0.5}, no_guard)
    assert "| base_accuracy | 0.5 |" in (tmp_path / "run" / "README.md").read_text()

    rows = load_dataset(str(tmp_path / "run"), cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(rows["question_id"]) == ["a", "b", "c"]
    frame = pl.read_parquet(f"{tmp_path}/run/paths/*.parquet")
    assert frame["question_id"].to_list() == [row["question_id"] for row in rows]
    assert frame["best_path"].to_list() == rows["best_path"]
