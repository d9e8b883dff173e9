"""Typed results as JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.program.json_codec import SPLICED, encoded


@dataclass(frozen=True, slots=True)
class Inner:
    share: float
    ends: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    figures: Inner = field(metadata=SPLICED)
    rows: tuple[Inner, ...] = ()
    nested: Inner | None = None


def test_a_spliced_field_gives_its_keys_in_its_place():
    found = encoded(Outer("a", Inner(0.5, (0.25, 0.75)), (Inner(1.0),), Inner(0.0)))
    assert list(found) == ["name", "share", "ends", "rows", "nested"]
    assert found == {
        "name": "a",
        "share": 0.5,
        "ends": [0.25, 0.75],
        "rows": [{"share": 1.0, "ends": None}],
        "nested": {"share": 0.0, "ends": None},
    }


def test_what_json_lacks_is_null_at_any_depth():
    found = encoded({"a": Inner(float("nan"), (float("-inf"), 1.0)), "b": [(float("inf"), 1)]})
    assert found == {"a": {"share": None, "ends": [None, 1.0]}, "b": [[None, 1]]}
