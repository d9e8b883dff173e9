"""The report in a real browser, opened from disk without a network."""

from __future__ import annotations

import shutil

import pytest
from bench_example import COMMAND, NUM_LAYERS, QUESTIONS, example_answers, example_bench, example_questions
from playwright.sync_api import sync_playwright

from infer.report.page import write_report

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src='http://example.com/x.png' onerror='window.broken = 1'>"
WIDE, NARROW = 1200, 400


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report(example_bench(), example_questions({21: HOSTILE}), example_answers(), file, COMMAND)
    return file


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Debian's browser where there is one, else Playwright's; the sandbox does not start for root in a container.
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, report):
    """Opens the report at a width; at the end nothing may have gone wrong or been asked from elsewhere."""
    contexts, problems, requests = [], [], []

    def open_at(width=WIDE, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert problems == []
    assert set(requests) == {report.as_uri()}


def names(page):
    return [text.split()[0] for text in page.locator("#systems tbody th").all_inner_texts()]


@pytest.mark.parametrize(("width", "kind"), [(WIDE, "wide"), (NARROW, "narrow")])
def test_one_chart_is_seen_with_all_its_marks_and_nothing_overflows(open_page, width, kind):
    page = open_page(width)
    shown = page.locator("svg.chart:visible")
    assert shown.count() == 1
    assert kind in shown.get_attribute("class")
    assert shown.locator("g[role=img] .mark").count() == 6
    assert shown.locator(".bar").count() == 6
    assert shown.locator(".point").count() == 5
    assert shown.locator(".placebo").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == WIDE:
        fits = "[...document.querySelectorAll('.scroll')].every((each) => each.scrollWidth <= each.clientWidth)"
        assert page.evaluate(fits), "no table needs scrolling sideways"
    box = shown.locator("text").first.bounding_box()
    assert box["height"] >= 10, "text of the chart must stay readable"


def test_columns_sort_both_ways_and_systems_left_out_stay_last(open_page):
    page = open_page()
    header = page.locator("#systems thead th", has_text="depth").first
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    falling = names(page)
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    rising = names(page)
    depths = {found.name: found.mean_depth for found in example_bench().systems if found.mean_depth}
    assert rising == [*sorted(depths, key=depths.__getitem__), "search"]
    assert falling == [*sorted(depths, key=depths.__getitem__, reverse=True), "search"]
    page.locator("#systems thead th").first.get_by_role("button").click()
    assert names(page) == sorted([*depths, "search"])
    assert header.get_attribute("aria-sort") == "none"


def test_the_question_on_which_verdicts_differ_comes_first_as_plain_text(open_page):
    page = open_page()
    first = page.locator("#questions tbody tr").first
    assert first.locator(".prompt").inner_text() == HOSTILE
    assert "right" in first.locator("td").nth(1).inner_text()
    assert "wrong" in first.locator("td").nth(2).inner_text()
    assert page.evaluate("window.broken") is None
    assert page.locator("#questions img").count() == 0
    assert first.locator(".path").first.locator("rect").count() == NUM_LAYERS


def test_search_and_filters_narrow_the_examples(open_page):
    page = open_page()
    rows = page.locator("#questions tbody tr")
    assert rows.count() == 25
    page.get_by_role("button", name="Show more").click()
    assert rows.count() == QUESTIONS
    assert not page.locator("#more").is_visible()
    page.get_by_label("Search").fill("NUMBER IS 17 PLUS")
    assert rows.count() == 1
    assert page.locator("#found").inner_text() == f"1 of {QUESTIONS} questions; 1 shown"
    page.get_by_label("Search").fill("")
    page.locator("#which").select_option("won")
    assert rows.count() == 1
    page.locator("#which").select_option("lost")
    assert rows.count() == 0
    page.locator("#left").select_option(label="gated")
    assert rows.count() == 13


def test_a_question_unfolds_to_the_paths_of_every_system(open_page):
    page = open_page()
    first = page.locator("#questions tbody tr").first
    first.locator("summary").click()
    first.locator(".all svg").first.wait_for()
    assert first.locator(".all > span").all_inner_texts() == [
        *("✗ full", "✓ router", "✓ gated", "✓ oracle", "✗ static", "✓ early_exit")
    ]


def test_the_legend_hides_a_system(open_page):
    page = open_page()
    mark = page.locator("svg.chart.wide .series[data-system=router]")
    button = page.locator(".legend").get_by_role("button", name="router")
    button.press("Space")
    assert button.get_attribute("aria-pressed") == "false"
    assert not mark.is_visible()
    button.press("Space")
    assert mark.is_visible()


CELL_PX = 8
"""Height of a cell on the canvas, where each question is one pixel wide."""
COLOURS = """heat => {
    const pixels = heat.getContext("2d").getImageData(0, 0, heat.width, heat.height).data;
    const found = {};
    for (let at = 0; at < pixels.length; at += 4) {
        const key = [...pixels.slice(at, at + 3)].map((part) => part.toString(16).padStart(2, "0")).join("");
        found[key] = (found[key] ?? 0) + 1;
    }
    return found;
}"""


def test_the_map_has_a_cell_for_each_action_and_follows_the_keys(open_page):
    page = open_page()
    heat = page.locator("#heat")
    page.locator("#map-system").select_option(label="oracle")
    paths = [answer.path for answer in example_answers()["oracle"]]
    counts = [sum(path.count(action) for path in paths) for action in (0, 1, 2)]
    assert heat.evaluate(COLOURS) == {
        "d55e00": counts[0] * CELL_PX,
        "cfd3d6": counts[1] * CELL_PX,
        "0072b2": counts[2] * CELL_PX,
        "00795a": sum(answer.correct for answer in example_answers()["oracle"]) * CELL_PX,
        "000000": (QUESTIONS + sum(not answer.correct for answer in example_answers()["oracle"])) * CELL_PX,
    }
    page.locator("#map-order").select_option("file")
    heat.focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp"):
        heat.press(key)
    assert page.locator("#heat-said").inner_text() == "Layer 3, question q01: skip (depth 11, answered right)"
    page.get_by_text("The same as a table").click()
    layer = page.locator("#by-layer tbody tr").nth(NUM_LAYERS - 1 - 10)
    assert layer.inner_text().split() == ["10", "0.0%", "75.0%", "25.0%"]


def test_the_dark_page_is_dark(open_page):
    def brightness(page):
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    assert brightness(open_page(scheme="dark")) < 150 < 600 < brightness(open_page(scheme="light"))
