import json
import os
import signal

import pytest
from commands import pathgen, question, write_questions

from cluster.program.console import QUIET_LIBRARIES, print_json
from cluster.program.errors import Interrupted


@pytest.fixture
def dry(tmp_path, tiny_model):
    """Calls `pathgen generate --dry-run`, and gives how many simulations it would search."""
    questions = write_questions(tmp_path / "q.jsonl", question("a"))

    def simulations(*arguments, env=None):
        fixed = ("--model", tiny_model, "--questions", questions, "--out", tmp_path / "run", "--dry-run")
        answer = pathgen("generate", *fixed, *arguments, env=env)
        assert answer.code == 0, answer.stderr
        return int(answer.stderr.split(" simulations each")[0].rsplit(" ", 1)[1])

    return simulations


def config(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


# --- usage errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate"], "Missing option '--out'"),
        (["generate", "--out", "x", "--no-such"], "--no-such"),
        (["generate", "--out", "x", "--simulations", "0"], "--simulations"),
        (["generate", "--out", "x", "--simulations", "many"], "--simulations"),
        (["generate", "--out", "x", "--limit", "0"], "--limit"),
        (["generate", "--out", "x", "--layer-budget", "-3"], "--layer-budget"),
        (["generate", "--out", "x", "--max-edits", "0"], "--max-edits"),
        (["generate", "--out", "x", "--allow-failures", "1.5"], "--allow-failures"),
        (["generate", "--out", "x", "--stop", "soon"], "'budget', 'published'"),
        (["generate", "--out", "x", "--cost", "joules"], "'layers', 'flops', 'latency'"),
        (["stats"], "DIR"),
        (["validate", "x", "--replay", "-1"], "--replay"),
        (["dance"], "No such command 'dance': commands are generate, stats, show, validate"),
    ],
)
def test_wrong_use_is_one_line_exit_code_2_and_json_if_asked_for(arguments, says):
    answer = pathgen(*arguments)
    assert (answer.code, answer.stdout) == (2, "")
    assert says in answer.error

    answer = pathgen(*arguments, "--json")
    assert answer.code == 2
    assert answer.json == {"error": answer.error, "exit_code": 2}


def test_no_command_is_answered_with_the_commands():
    answer = pathgen()
    assert answer.code == 0
    for command in ("generate", "stats", "show", "validate"):
        assert command in answer.stdout


def test_a_mistake_of_ours_is_told_whole_and_stdout_has_its_object(monkeypatch):
    def mistake(out):
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("pathgen.report.stats.run_stats", mistake)
    answer = pathgen("stats", "x", "--json")
    assert answer.code == 1
    assert answer.json == {"error": "RuntimeError: not foreseen", "exit_code": 1}
    assert "Traceback" in answer.stderr
    assert pathgen("stats", "x").stdout == ""


def test_sigterm_is_one_line_and_143_and_its_handler_goes_with_the_command(monkeypatch):
    monkeypatch.setattr("pathgen.report.stats.run_stats", lambda out: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    answer = pathgen("stats", "x", "--json")
    assert answer.code == 143
    assert answer.json == {"error": answer.error, "exit_code": 143}
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_is_143_for_a_command_that_has_words_of_its_own_for_ctrl_c(monkeypatch):
    def run_stats(out):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise Interrupted("it goes on") from None

    monkeypatch.setattr("pathgen.report.stats.run_stats", run_stats)
    answer = pathgen("stats", "x")
    assert (answer.code, answer.error) == (143, "it goes on")


def test_ctrl_c_is_one_line_and_130(monkeypatch):
    def interrupt(out):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathgen.report.stats.run_stats", interrupt)
    answer = pathgen("stats", "x", "--json")
    assert answer.code == 130
    assert answer.json == {"error": answer.error, "exit_code": 130}


def test_libraries_are_told_to_keep_quiet_unless_the_user_says_otherwise(monkeypatch):
    for name in QUIET_LIBRARIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    pathgen("--help")
    assert {name: os.environ[name] for name in QUIET_LIBRARIES} == QUIET_LIBRARIES | {"TRANSFORMERS_VERBOSITY": "info"}


def test_what_json_lacks_becomes_null(capsys):
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (1, float("-inf"))}, "e": None})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": [1, None]}, "e": None}


# --- flag, environment, config, default -----------------------------------------------------------------


def test_a_flag_beats_the_environment_which_beats_the_config_which_beats_the_default(dry, tmp_path):
    file = config(tmp_path, "simulations: 7\nparallel-leaves: 3\nmax_edits: 4\n")
    env = {"LAYERPATHS_SIMULATIONS": "8"}
    assert dry() == 50
    assert dry("--config", file) == 7
    assert dry("--config", file, env=env) == 8
    assert dry("--config", file, "--simulations", "9", env=env) == 9
    assert dry(env=env | {"LAYERPATHS_CONFIG": str(file)}) == 8
    assert dry(env={"LAYERPATHS_CONFIG": str(file)}) == 7


def test_a_config_may_give_what_is_required(tmp_path, tiny_model):
    questions = write_questions(tmp_path / "q.jsonl", question("a"))
    file = config(tmp_path, f"out: {tmp_path}/run\nmodel: {tiny_model}\nquestions: {questions}\ndry-run: true\n")
    answer = pathgen("generate", "--config", file, "--json")
    assert answer.json == {"out": f"{tmp_path}/run", "questions": 1, "done_before": 0, "to_search": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("simulation: 5\n", "unknown simulation; options are"),
        ("no-chat: true\n", "unknown no-chat"),
        ("config: other.yaml\n", "unknown config"),
        ("simulations: many\n", "--simulations"),
        ("simulations: [1, 2]\n", "simulations is one value; got [1, 2]"),
        ("simulations: true\n", "simulations is no yes or no"),
        ("limit: yes\n", "limit is no yes or no"),
        ("out: no\n", "out is no yes or no"),
        ("questions: [a, b]\n", "questions is one value"),
        ("questions: {a: b}\n", "questions is one value"),
        ("dry-run: 1\n", "dry_run is true or false; got 1"),
        ("json: true\n", "unknown json"),
        ("simulations: 0\n", "--simulations"),
        ("stop: soon\n", "'budget', 'published'"),
        ("- simulations\n", "simulations: 100"),
        ("simulations: {\n", "no YAML"),
        ("simulations: !!python/object/apply:os.system ['touch CANARY']\n", "no YAML"),
        ("model: !!python/name:os.system\n", "no YAML"),
    ],
)
def test_a_config_that_is_wrong_is_refused(tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    answer = pathgen("generate", "--out", "run", "--config", config(tmp_path, text), "--json")
    assert answer.code == 2
    assert says in answer.error
    assert answer.json["exit_code"] == 2
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_a_config_that_is_not_there(tmp_path):
    answer = pathgen("generate", "--out", "run", "--config", tmp_path / "none.yaml")
    assert answer.code == 2
    assert "none.yaml cannot be read (No such file" in answer.error
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "no YAML" in pathgen("generate", "--out", "run", "--config", tmp_path / "binary.yaml").error


def test_a_wrong_environment_variable_is_named():
    answer = pathgen("generate", "--out", "run", env={"LAYERPATHS_SEED": "x"})
    assert answer.code == 2
    assert "--seed" in answer.error
