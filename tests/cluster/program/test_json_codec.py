"""JSON from frozen dataclasses and back: exact, and strict about all that a file may hold instead."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import pytest

from cluster.program.json_codec import OtherVersion, decoded, encoded, from_json, to_json


class Kind(IntEnum):
    SMALL = 0
    LARGE = 1


class Steps(tuple[int, ...]):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Part:
    kind: Kind
    share: float = field(metadata={"most": 1.0})
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    VERSION = ("format_version", 2)
    DERIVED = ("count",)

    model_id: str = field(metadata={"at": "model.id"})
    fingerprint: str = field(metadata={"at": "model.print"})
    parts: tuple[Part, ...]
    steps: Steps
    pairs: list[tuple[int, float]]
    mode: Literal["a", "b"]
    on: bool
    notes: dict[str, Any]

    def __post_init__(self) -> None:
        if self.mode == "b" and self.on:
            raise ValueError("b is never on")

    @property
    def count(self) -> int:
        return len(self.parts)


@dataclass(frozen=True, slots=True)
class Open:
    OPEN_ENDED = True

    pid: int


PARTS = (Part(Kind.LARGE, 0.1 + 0.2), Part(Kind.SMALL, 1.0, "x"))
WHOLE = Whole("tiny", "f00d", PARTS, Steps((0, 1, 2)), [(7, 0.5)], "a", True, {"cost": [1, None]})


def test_json_gives_back_the_same():
    content = to_json(WHOLE)
    stored = json.loads(content)
    assert from_json(Whole, content) == WHOLE
    assert type(from_json(Whole, content).steps) is Steps
    assert list(stored)[:2] == ["format_version", "model"]
    assert stored["model"] == {"id": "tiny", "print": "f00d"}
    assert stored["count"] == 2
    assert from_json(dict[str, Part], to_json({"a": PARTS[0]})) == {"a": PARTS[0]}


def test_whole_numbers_are_numbers_and_what_has_a_default_may_be_absent():
    found = decoded(Part, {"kind": 1, "share": 1})
    assert (found, type(found.share)) == (Part(Kind.LARGE, 1.0), float)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extra": 1, "also": 2}, "unknown settings: also, extra"),
        ({"model": {"id": "tiny"}}, "model.print is missing"),
        ({"model": {"id": "tiny", "print": "f", "more": 1}}, "unknown settings: model.more"),
        ({"model": "tiny"}, "model is not a dict: 'tiny'"),
        ({"parts": "ab"}, "parts is not a list: 'ab'"),
        ({"parts": [{"kind": 1}]}, "share is missing"),
        ({"parts": [{"kind": 9, "share": 0.5}]}, "9 is not a valid Kind"),
        ({"parts": [{"kind": 1, "share": 1.5}]}, "share is not a number between -1 and 1: 1.5"),
        ({"parts": [{"kind": 1, "share": float("nan")}]}, "share is not a number between -1 and 1: nan"),
        ({"parts": [{"kind": 1, "share": True}]}, "share is not a number between -1 and 1: True"),
        ({"parts": [{"kind": 1, "share": 10**400}]}, "too large"),
        ({"parts": [{"kind": 1, "share": 0.5, "label": 3}]}, r"label is not a str \| None: 3"),
        ({"pairs": [[1]]}, "shorter"),
        ({"pairs": [[1, float("inf")]]}, "pairs is not a finite number: inf"),
        ({"mode": "b"}, "b is never on"),
        ({"on": 1}, "on is not a bool: 1"),
        ({"notes": []}, r"notes is not a dict: \[\]"),
        ({"count": 3}, "count does not fit the rest"),
    ],
)
def test_anything_else_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        decoded(Whole, encoded(WHOLE) | change)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000, to_json(WHOLE)[:-9]])
def test_no_such_json_is_refused(content):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        from_json(Whole, content)


def test_another_version_is_told():
    with pytest.raises(OtherVersion, match="format version 3, this layerpaths reads 2"):
        decoded(Whole, encoded(WHOLE) | {"format_version": 3})
    stored = encoded(WHOLE)
    del stored["format_version"]
    with pytest.raises(ValueError, match="format_version is missing"):
        decoded(Whole, stored)


def test_unknown_keys_are_ignored_where_a_format_is_open():
    assert from_json(Open, b'{"pid": 3, "beat": 4}') == Open(3)
