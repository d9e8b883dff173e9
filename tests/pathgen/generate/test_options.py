import json
from dataclasses import fields

import pytest

from cluster.program.errors import UsageError
from cluster.program.options import flags_named
from pathgen.actors.options import parse_actors
from pathgen.errors import InputError
from pathgen.generate.options import GenerateOptions
from pathgen.questions.tasks import find_task
from pathgen.search.settings import SearchSettings
from pathgen.store.index import Budgets

ARC = find_task("arc")


def settings(options):
    return options.settings(ARC, 6, "float32")


@pytest.mark.parametrize(
    "change",
    [
        {"actors": 3},
        {"threads_per_actor": 2},
        {"in_flight": 5},
        {"device": "cuda"},
        {"address": "auto"},
        {"limit": 5},
        {"quiet": True},
        {"retry_failed": False},
        {"allow_failures": 0.5},
        {"question_timeout_s": 5.0},
    ],
)
def test_how_a_run_is_carried_out_is_not_part_of_what_it_is(change):
    assert settings(GenerateOptions("run", **change)) == settings(GenerateOptions("run"))


def test_run_json_keeps_every_option_somewhere():
    """What a run is stands in its other keys; nothing of these two is a setting."""
    elsewhere = {"out", "model", "task", "questions", "answers", "chat", "search", "dtype", "dry_run", "quiet"}
    options = GenerateOptions("run", actors=3, columns={"id": "qid"})
    assert {field.name for field in fields(options)} == {
        *elsewhere,
        *options.others(),
        *(settings(options).keys() & {field.name for field in fields(options)}),
    }
    assert json.loads(json.dumps(options.others()))["columns"] == {"id": "qid"}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"seed": 1}, {"seed"}),
        ({"cost": "flops"}, {"cost"}),
        ({"chat": True}, {"task"}),
        ({"seconds_budget": 2.0}, {"seconds_budget"}),
        ({"search": SearchSettings(simulations=9, layer_budget=90)}, {"simulations", "layer_budget"}),
        ({"search": SearchSettings(max_depth=8, stop="published")}, {"max_depth", "stop"}),
    ],
)
def test_what_changes_results_is(change, differs):
    plain, changed = settings(GenerateOptions("run")), settings(GenerateOptions("run", **change))
    assert {name for name in plain if plain[name] != changed[name]} == differs


def test_settings_become_the_budgets_of_a_question():
    options = GenerateOptions("run", search=SearchSettings(simulations=9, layer_budget=90), seconds_budget=2.0)
    assert Budgets.of(settings(options), 6) == Budgets(9, 90, 2.0, max_depth=10)
    # By FLOPs a path of cheap layers may be deeper than max_depth: eight repeats at most.
    assert Budgets.of(settings(GenerateOptions("run", cost="flops")), 6).max_depth == 14


@pytest.mark.parametrize("name", ["seconds_budget", "question_timeout_s", "start_timeout_s"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_durations_are_above_zero(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} must be a finite number above 0"):
        GenerateOptions("run", **{name: value})


def test_actors():
    assert parse_actors("auto") is None
    assert parse_actors("3") == 3
    for text in ("0", "-1", "1.5", "many", ""):
        with pytest.raises(InputError, match="--actors must be auto or a positive number"):
            parse_actors(text)


def test_search_settings_out_of_bounds_are_wrong_use():
    with pytest.raises(UsageError, match="simulations must be a finite number >= 0; got -1"), flags_named():
        SearchSettings(simulations=-1)
