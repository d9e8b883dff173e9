"""The picture of accuracy and agreement against depth, from both kinds of stored results."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.bridges.depth_picture import Column, Point, picture, read_column
from pathgen.errors import InputError

FOUND = {
    "plain skip": (Point(22, 0.2, 0.3), Point(24, 0.4, 0.5)),
    "with bridges": (Point(22, 0.6, 0.7), Point(24, 0.8, 0.9)),
}


def row(point):
    return {"accuracy": point.accuracy, "agreement": point.agreement, "delta": 0.0}


@pytest.mark.parametrize("kind", ["ways", "depths"])
def test_both_kinds_of_results_are_read(kind):
    names = {"plain skip": ("plain", "ours"), "with bridges": ("bridged", "ours+bridges")}
    if kind == "ways":
        ways = {
            f"{names[name][0]}|{point.depth}": row(point) | {"path": "." * point.depth + "-" * (28 - point.depth)}
            for name in FOUND
            for point in FOUND[name]
        }
        content = {"ways": {"full": {"accuracy": 0.75, "path": "." * 28}} | ways, "questions": 40}
    else:
        depths = {"22": {names[name][1]: row(FOUND[name][0]) for name in FOUND}}
        depths["24"] = {names[name][1]: row(FOUND[name][1]) for name in FOUND} | {"greedy": row(Point(24, 0.5, 0.6))}
        content = {"depths": depths, "full_accuracy": 0.75, "questions": {"count": 40}, "paths": {"ours|22": "." * 28}}
    column = read_column(content | {"model": "some/tiny", "task": "arc-letter"})
    assert (column.title, column.questions, column.full_accuracy, column.layers) == ("tiny, by letter", 40, 0.75, 28)
    rivals = {"greedy": (Point(24, 0.5, 0.6),)} if kind == "depths" else {}
    assert column.systems == FOUND | rivals
    assert list(column.systems)[:2] == ["with bridges", "plain skip"]


def test_another_file_is_refused():
    with pytest.raises(InputError, match="neither `ways` nor `depths`"):
        read_column({"model": "m", "task": "arc"})


def test_each_point_stands_with_its_interval_in_both_panels():
    column = Column("tiny", "40 unseen questions", 40, 0.75, 28, FOUND)
    tree = ElementTree.fromstring(picture([column, column]))
    titles = [element.text for element in tree.iter() if element.tag.endswith("title")]
    assert len(titles) == 2 * 2 * 4
    assert titles.count("with bridges, 24 layers: 80.0 % [65.2, 89.5]") == 2  # Wilson, 32 of 40
    assert titles.count("with bridges, 24 layers: 90.0 % [76.9, 96.0]") == 2
