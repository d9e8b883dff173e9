from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import pytest
from bench_example import NUM_LAYERS, example_answers, example_bench, example_questions, with_system
from hypothesis import given
from hypothesis import strategies as st
from lxml import html

from infer.bench.answers import Answer, Effort
from infer.report.chart import BAR_PX, MARK_PX, Scale, depth_chart, look, nice_step, side_by_side
from infer.report.page import write_report
from infer.report.words import DETAILS, confusions, headlines, used_columns, verdict
from pathgen.errors import ArtefactError
from pathgen.paths.layer_path import LayerPath

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 '\"`${1}"


def system(bench, name):
    return next(found for found in bench.systems if found.name == name)


@pytest.fixture
def page(tmp_path):
    """Writes a report and gives its parsed page."""

    def write(bench=None, questions=None, answers=None, command=""):
        file = tmp_path / "deep" / "report.html"
        questions = example_questions() if questions is None else questions
        answers = example_answers() if answers is None else answers
        write_report(bench or example_bench(), questions, answers, file, command)
        return html.fromstring(file.read_bytes())

    return write


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ([-0.02, 0.05], "not distinguishable from full depth"),
        ([0.0, 0.05], "not distinguishable from full depth"),
        ([-0.05, 0.0], "not distinguishable from full depth"),
        ([0.001, 0.05], "better than full depth"),
        ([-0.05, -0.001], "worse than full depth"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(interval, said):
    bench = with_system(example_bench(), "router", delta_ci95=tuple(interval))
    assert verdict(system(bench, "router")) == said
    assert said in dict(headlines(bench))["router"]


def test_headlines_are_of_full_depth_routers_and_the_static_path():
    found = dict(headlines(example_bench()))
    assert list(found) == ["full depth", "router", "gated", "static", "oracle"]
    assert "65.0% (51.0 to 77.0) of 40 questions right with all 12 layers" in found["full depth"]
    assert "+2.5 (−0.8 to +5.8) points" in found["router"]
    assert "1.06×" in found["router"]
    assert "one path for every question" in found["static"]


def test_a_collapsed_router_is_called_so():
    bench = with_system(example_bench(), "router", off_full_share=0.0, off_common_share=0.0, mean_depth=12.0)
    assert "never leaves the full path" in dict(headlines(bench))["router"]


def test_an_oracle_without_placebo_is_no_finding_and_no_mark(page):
    bench = example_bench()
    assert "70.0%" in dict(headlines(bench))["oracle"]
    assert (
        "so accuracy above the placebo is an upper bound and does not prove headroom."
        in dict(headlines(bench))["oracle"]
    )
    assert {"oracle"} & {series.name for series in depth_chart(bench.systems, None, 400, 300).series}
    bench = with_system(bench, "oracle", placebo_accuracy=None)
    assert "oracle" not in dict(headlines(bench))
    assert "oracle" not in {series.name for series in depth_chart(bench.systems, None, 400, 300).series}
    assert "no placebo" in page(bench).xpath("string(//table[@id='systems']//tr[contains(th, 'oracle')])")


def test_questions_seen_in_training_are_a_warning():
    assert "warning" not in dict(headlines(example_bench()))
    assert dict(headlines(replace(example_bench(), seen_in_training=3)))["warning"].startswith("3 of the questions")


@given(st.floats(1e-6, 1e6))
def test_a_step_is_the_next_round_number(least):
    step = nice_step(least)
    assert least * (1 - 1e-6) <= step < 2.5 * least * (1 + 1e-6)
    assert f"{step:.6e}"[0] in "125"


@given(st.lists(st.integers(0, 6400).map(lambda number: number / 100), min_size=1, max_size=8))
def test_an_axis_holds_its_values_between_its_outer_ticks(values):
    axis = Scale.around(values, 40.0, 400.0)
    assert all(40 <= axis(value) <= 400 for value in values)
    assert axis(axis.ticks[0]) == pytest.approx(40)
    assert axis(axis.ticks[-1]) == pytest.approx(400)
    assert 2 <= len(axis.ticks) <= 9


def test_marks_stand_at_their_figures():
    bench = example_bench()
    chart = depth_chart(bench.systems, 0.25, 800, 400)
    full = next(series for series in chart.series if series.name == "full")
    assert (full.mark.x, full.mark.y) == (chart.x(12.0), chart.y(0.65))
    assert full.bar == (chart.y(0.77), chart.y(0.51))
    assert full.bar[0] < full.mark.y < full.bar[1]
    assert chart.full_y == full.mark.y < chart.chance_y
    sweep = next(series for series in chart.series if series.name == "early_exit").sweep
    assert [mark.x for mark in sweep] == [chart.x(depth) for depth in (5, 6, 7, 8, 9)]


def test_systems_of_one_depth_stand_side_by_side():
    systems = [replace(found, mean_depth=found.mean_depth and 12.0) for found in example_bench().systems]
    chart = depth_chart(systems, None, 800, 400)
    for one, other in combinations(chart.series, 2):
        same_height = abs(one.mark.y - other.mark.y) < MARK_PX
        shared = max(one.bar[0], other.bar[0]) < min(one.bar[1], other.bar[1])
        assert abs(one.mark.x - other.mark.x) >= (MARK_PX if same_height else BAR_PX if shared else 0) - 0.2
    (oracle,) = [series for series in chart.series if series.placebo]
    assert abs(oracle.placebo.x - oracle.mark.x) >= (MARK_PX if abs(oracle.placebo.y - oracle.mark.y) < MARK_PX else 0)


@pytest.mark.parametrize(
    ("marks", "places"),
    [
        ([(100, 50), (100, 50)], [93, 107]),  # one on the other
        ([(100, 50), (100, 90)], [97, 103]),  # one above the other: the bars alone
        ([(100, 50), (110, 55)], [98, 112]),
        ([(100, 50), (107, 90), (130, 50)], [100, 107, 130]),  # nothing hides anything
        ([(100, 50)] * 3, [86, 100, 114]),
        ([(100, 50), (100, 150)], [100, 100]),  # far above each other
    ],
)
def test_marks_are_moved_only_as_far_as_they_must(marks, places):
    assert side_by_side([(x, y, y - 30, y + 30) for x, y in marks]) == pytest.approx(places, abs=0.2)


def test_no_two_systems_look_alike():
    assert len({look(index, f"router {index}") for index in range(30)}) == 30
    assert look(0, "full")[0] not in {look(index, "router")[0] for index in range(30)}


def test_confusion_counts_layers_of_questions_with_a_label():
    def row(question, path, correct=True):
        return Answer(question, LayerPath(path), correct, None, None, Effort.of_paths([path]))

    rows = {
        "oracle": [row("a", [0, 1, 2]), row("b", [1, 1, 0]), row("c", [0, 0, 0], correct=False)],
        "mine": [row("a", [0, 1, 1]), row("b", [1, 0, 0]), row("c", [1, 1, 1])],
        "random": [row("a", [1, 1, 1])],
    }
    (found,) = confusions(rows)
    assert (found.system, found.questions) == ("mine", 2)
    assert found.rows == (
        ("skip", ((2, 1.0), (0, 0.0), (0, 0.0))),
        ("execute", ((1, 1 / 3), (2, 2 / 3), (0, 0.0))),
        ("repeat", ((0, 0.0), (1, 1.0), (0, 0.0))),
    )
    assert confusions({"mine": rows["mine"]}) == []


def test_columns_without_any_figure_are_left_out():
    bench = example_bench()
    titles = [column.title for column in used_columns(DETAILS, bench.systems)]
    assert "memory, MB" not in titles
    bench = with_system(bench, "full", peak_memory_mb=512.0)
    assert [column.title for column in used_columns(DETAILS, bench.systems)] == [*titles, "memory, MB"]


def test_every_system_has_its_row_and_the_left_out_their_reason(page):
    rows = page().xpath("//table[@id='systems']/tbody/tr")
    assert [row.xpath("string(th)").split()[0] for row in rows] == [found.name for found in example_bench().systems]
    assert "left out: no budget was given" in rows[-1].text_content()
    assert not any("None" in row.text_content() for row in rows)


def test_every_point_of_a_sweep_is_in_a_table_too(page):
    rows = page().xpath("//table[@id='sweeps']/tbody/tr")
    assert [[cell.text_content() for cell in row] for row in rows][-1] == [
        "early_exit",
        "threshold 0.95",
        "50.0%",
        "9.00",
    ]
    assert len(rows) == 5


def test_hostile_text_stays_text(page):
    answers = {name: [replace(first, answer=HOSTILE), *more] for name, (first, *more) in example_answers().items()}
    answers[HOSTILE] = answers.pop("gated")
    bench = replace(example_bench(), model=HOSTILE, environment={HOSTILE: HOSTILE})
    bench = with_system(with_system(bench, "gated", name=HOSTILE), "search", skipped=HOSTILE)
    tree = page(bench, example_questions({0: HOSTILE}), answers, command=HOSTILE)
    assert len(tree.xpath("//script")) == 2
    assert not tree.xpath("//img | //*[@onerror]")
    data = json.loads(tree.xpath("string(//script[@id='data'])"))
    assert data["questions"][0]["prompt"] == HOSTILE
    assert tree.xpath("//title/text()")[0] == f"Bench of {HOSTILE} on arc"


def test_nothing_is_asked_from_elsewhere(page):
    tree = page()
    assert not tree.xpath("//link | //iframe | //object | //script[@src] | //img")
    assert all(link.startswith("#") for link in tree.xpath("//@href"))
    assert "default-src 'none'" in tree.xpath("string(//meta[@http-equiv]/@content)")


def test_a_bench_without_rows_or_figures_still_has_its_page(page):
    bench = example_bench()
    tree = page(replace(bench, systems=(system(bench, "search"),)), questions=[], answers={})
    assert "No system has both accuracy and depth" in tree.text_content()
    assert not tree.xpath("//canvas")


def test_generated_answers_need_no_choices(page):
    questions = [replace(found, choices=None, gold=None, reference="42") for found in example_questions()]
    answers = {name: [replace(found, answer=None) for found in given] for name, given in example_answers().items()}
    tree = page(questions=questions, answers=answers)
    assert "guessing" not in tree.text_content()
    assert json.loads(tree.xpath("string(//script[@id='data'])"))["questions"][0]["gold"] == "42"


def test_a_path_of_another_model_is_refused_and_the_old_report_stays(tmp_path):
    file = tmp_path / "report.html"
    write_report(example_bench(), example_questions(), example_answers(), file)
    before = file.read_bytes()
    answers = example_answers()
    answers["router"][3] = replace(answers["router"][3], path=LayerPath.full(NUM_LAYERS - 1))
    with pytest.raises(ArtefactError, match="router, question q03: a path of 11 layers, where the bench has 12"):
        write_report(example_bench(), example_questions(), answers, file)
    assert file.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
