import math
from dataclasses import replace

import pytest
from path_runs import FINGERPRINT, failed, path, searched, write_run

from pathgen.errors import ArtefactError, InputError
from pathgen.questions.question import Question
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_reader import SearchedRun
from router.data.path_datasets import PathDatasets

KEPT = {"....": 1.0, "-...": 0.5, ".2..": None}
UNSOLVED = {"....": -1.0, "-...": -0.5}


def ids(datasets):
    return [record.question.id for _, record in datasets.records()]


def renamed(record, question_id):
    return replace(record, question=replace(record.question, id=question_id))


# --- reading ----------------------------------------------------------------------------------------------


def test_records_come_whole_with_their_folder_and_without_the_failed(tmp_path):
    records = [searched("a", KEPT), failed("b"), searched("c", UNSOLVED), searched("d", KEPT)]
    out = write_run(tmp_path / "run", records)
    datasets = PathDatasets([out])
    assert list(datasets.records()) == [(out, records[0]), (out, records[2]), (out, records[3])]
    assert list(datasets.questions()) == [record.question for _, record in datasets.records()]
    assert len(datasets) == 3


def test_what_is_common_to_the_folders(tmp_path):
    one = write_run(tmp_path / "one", [searched("a", KEPT)], chat=True, dtype="bfloat16")
    two = write_run(
        tmp_path / "two", [searched("b", KEPT, task="math")], task="math", model_id="copy", chat=True, dtype="bfloat16"
    )
    datasets = PathDatasets([one, two])
    assert (datasets.model_id, datasets.fingerprint, datasets.num_layers) == ("tiny", FINGERPRINT, 4)
    assert (datasets.chat, datasets.dtype, datasets.tasks) == (True, "bfloat16", ("arc", "math"))
    assert datasets.settings == {out: RunDirectory(out).info().settings for out in (one, two)}
    assert [(out, record.question.id) for out, record in datasets.records()] == [(one, "a"), (two, "b")]


def test_the_question_of_a_record_has_its_sha():
    record = searched("a", KEPT)
    assert record.question == Question("a", "What is a?", ("yes", "no"), 1)
    assert record.question.sha == record.question_sha


def test_an_object_store_holds_datasets_too():
    out = write_run("memory://datasets/run", [searched("a", KEPT)])
    assert ids(PathDatasets([out])) == ["a"]


# --- questions that several records tell of ---------------------------------------------------------------


def test_a_question_of_two_folders_counts_once_from_the_longer_search_then_the_first_folder(tmp_path):
    same = searched("a", KEPT)
    longer = searched("b", {**KEPT, "..-.": 0.1})
    one = write_run(tmp_path / "one", [same, searched("b", KEPT), searched("c", KEPT)])
    two = write_run(tmp_path / "two", [same, longer])
    datasets = PathDatasets([one, two])
    assert [(out, record.question.id) for out, record in datasets.records()] == [(one, "a"), (one, "c"), (two, "b")]
    assert len(datasets) == 3
    assert ids(PathDatasets([two, one])) == ["a", "b", "c"]


def test_a_folder_given_twice_counts_once(tmp_path):
    out = write_run(tmp_path / "run", [searched("a", KEPT)])
    assert ids(PathDatasets([out, out, f"{out}/"])) == ["a"]


def test_equal_questions_under_other_ids_count_once_and_equal_ids_of_other_questions_apart(tmp_path):
    record = searched("a", KEPT)
    other = renamed(searched("x", KEPT), "a")
    one = write_run(tmp_path / "one", [record, renamed(record, "a-again")])
    two = write_run(tmp_path / "two", [other])
    assert [(record.question.id, record.question.prompt) for _, record in PathDatasets([one, two]).records()] == [
        ("a", "What is a?"),
        ("a", "What is x?"),
    ]


def test_the_same_question_of_two_tasks_counts_twice(tmp_path):
    one = write_run(tmp_path / "one", [searched("a", KEPT)])
    two = write_run(tmp_path / "two", [searched("a", KEPT, task="arc-letter")], task="arc-letter")
    assert ids(PathDatasets([one, two])) == ["a", "a"]


def test_a_failed_record_does_not_hide_another_folders(tmp_path):
    one = write_run(tmp_path / "one", [failed("a"), searched("b", KEPT)])
    two = write_run(tmp_path / "two", [searched("a", KEPT)])
    assert ids(PathDatasets([one, two])) == ["b", "a"]


def test_every_pass_reads_the_same_questions_while_a_run_goes_on(tmp_path):
    out = write_run(tmp_path / "run", [searched("a", KEPT)])
    datasets = PathDatasets([out])
    write_run(out, [searched("b", KEPT)])
    assert ids(datasets) == ["a"]
    assert ids(PathDatasets([out])) == ["a", "b"]


# --- refusals ---------------------------------------------------------------------------------------------


def test_no_folder_and_no_run_are_wrong_use(tmp_path):
    with pytest.raises(InputError, match="no folder of paths"):
        PathDatasets([])
    with pytest.raises(InputError, match="holds no run"):
        PathDatasets([str(tmp_path)])


@pytest.mark.parametrize("records", [[], [failed("a")]])
def test_a_folder_with_nothing_searched_is_named(tmp_path, records):
    full = write_run(tmp_path / "full", [searched("a", KEPT)])
    empty = write_run(tmp_path / "empty", records)
    with pytest.raises(InputError, match=r"empty holds no searched question; .*pathgen generate"):
        PathDatasets([full, empty])


@pytest.mark.parametrize(
    ("margins", "options", "difference"),
    [
        (KEPT, {"fingerprint": "0" * 16}, f"model fingerprint is {FINGERPRINT} and {'0' * 16}"),
        ({".....": 1.0}, {}, "number of layers is 4 and 5"),
        (KEPT, {"dtype": "float16"}, "dtype is float32 and float16"),
        (KEPT, {"chat": True}, "chat setting is False and True"),
    ],
)
def test_folders_that_do_not_belong_together_are_refused(tmp_path, margins, options, difference):
    one = write_run(tmp_path / "one", [searched("a", KEPT)])
    two = write_run(tmp_path / "two", [searched("b", margins)], **options)
    with pytest.raises(ArtefactError, match=f"^{one} and {two} .*{difference}") as caught:
        PathDatasets([one, two])
    assert caught.value.exit_code == 4


def test_a_folder_of_two_models_is_refused(tmp_path):
    out = write_run(tmp_path / "run", [searched("a", KEPT), searched("b", {".....": 1.0})])
    with pytest.raises(ArtefactError, match="run holds records of models of 4 and 5 layers"):
        PathDatasets([out])


@pytest.mark.parametrize("lacking", ["dtype", "task"])
def test_a_run_json_without_a_setting_is_refused(tmp_path, lacking):
    run = RunDirectory(write_run(tmp_path / "run", [searched("a", KEPT)]))
    info = run.info()
    settings = {name: value for name, value in info.settings.items() if name != lacking}
    run.fs.pipe_file(f"{run.root}/run.json", replace(info, settings=settings).to_json())
    with pytest.raises(ArtefactError, match=f"run.json lacks the setting '{lacking}'"):
        SearchedRun.load(run.out)
    with pytest.raises(ArtefactError, match=f"run.json lacks the setting '{lacking}'"):
        PathDatasets([run.out])


def broken(**changes):
    return replace(searched("bad", KEPT), **changes)


def with_evaluation(**changes):
    evaluations = searched("bad", KEPT).evaluations
    return broken(evaluations=[*evaluations[:-1], replace(evaluations[-1], **changes)])


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (with_evaluation(path=path("...")), "a path has 3 actions, the model 4 layers"),
        (broken(best_path=path(".....")), "a path has 5 actions, the model 4 layers"),
        (with_evaluation(path=(1, 1, 3, 1)), "a path holds action 3"),
        (with_evaluation(path=()), "a path has no layers"),
        (with_evaluation(margin=math.nan), "a margin is nan"),
        (broken(base_margin=math.inf), "a margin is inf"),
        (broken(best_margin=-math.inf), "a margin is -inf"),
        (broken(evaluations=[]), "no evaluations"),
        (broken(task="math"), "it is of task math, the run of arc"),
    ],
)
def test_a_record_that_cannot_be_is_told_with_folder_and_question(tmp_path, record, fault):
    out = write_run(tmp_path / "run", [searched("a", KEPT), record])
    stream = PathDatasets([out]).records()
    assert next(stream)[1].question.id == "a"
    with pytest.raises(ArtefactError, match=f"^{out}: question bad: {fault}"):
        next(stream)
