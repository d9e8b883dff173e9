"""Converts frozen dataclasses to JSON and back, strictly by their annotations; used for all stored files.

Optional class attributes of a dataclass:

- `VERSION`: key and number of its format, first in a file.
- `DERIVED`: names of properties that are written too, and checked when the file is read.
- `OPEN_ENDED`: unknown keys are ignored, not refused.

Optional metadata of a field: `at` is its place in an inner object, for example `model.id`; `most` bounds the size of a
number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

SPLICED = {"spliced": True}
"""Metadata of a field whose value is a dataclass: the value's keys replace the field. It works for writing only."""


class OtherVersion(ValueError):
    """A file of another version of its format."""


def encoded(value: Any) -> Any:
    """Convert a value to plain JSON values; NaN and Inf, which JSON lacks, become null."""
    if is_dataclass(value):
        content: dict[str, Any] = dict([value.VERSION]) if hasattr(value, "VERSION") else {}
        for entry in fields(value):
            outer, _, name = entry.metadata.get("at", entry.name).rpartition(".")
            inner = encoded(getattr(value, entry.name))
            if "spliced" in entry.metadata:
                content |= inner
            else:
                (content.setdefault(outer, {}) if outer else content)[name] = inner
        return content | {name: encoded(getattr(value, name)) for name in getattr(value, "DERIVED", ())}
    if isinstance(value, Mapping):
        return {name: encoded(entry) for name, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [encoded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def to_json(value: Any, *, indent: int | None = None) -> bytes:
    """Convert a dataclass, or a container of dataclasses, to the content of a file."""
    return (json.dumps(encoded(value), indent=indent) + "\n").encode()


def from_json(kind: type[T], content: bytes | str) -> T:
    """The inverse of `to_json`; `kind` is a dataclass or a container of dataclasses, as `dict[str, Timing]`.

    Raises:
        OtherVersion: the file has another version.
        ValueError: it is no JSON of this kind; the text names the fault.
    """
    try:
        stored = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested without end") from error
    return decoded(kind, stored)


def decoded(kind: type[T], stored: Any) -> T:
    """The inverse of `encoded`, with the errors of `from_json`.

    Errors of a dataclass's own checks come first, because they can say which values are allowed.
    """
    faults: list[str] = []
    try:
        value = _value(kind, stored, "the content", faults)
    except (TypeError, AttributeError, OverflowError) as error:  # a check met a value of a wrong type
        raise ValueError(faults[0] if faults else str(error)) from error
    if faults:
        raise ValueError(faults[0])
    return value


def _value(kind: Any, stored: Any, name: str, faults: list[str], most: float = math.inf) -> Any:
    """Convert a value by its annotation; a scalar of a wrong type is returned unchanged and added to the faults."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if is_dataclass(kind):
        return _instance(kind, _object(stored, name), faults)
    if origin is UnionType and stored is not None and (inner := next(filter(is_dataclass, parts), None)):
        return _value(inner, stored, name, faults)
    if origin is dict:
        entries = _object(stored, name).items()
        return {key: _value(parts[1], entry, f"{name}.{key}", faults) for key, entry in entries}
    if isinstance(origin, type) and issubclass(origin, (list, tuple)):
        if not isinstance(stored, list):
            raise ValueError(f"{name} is not a list: {stored!r}")
        kinds = parts if parts and Ellipsis not in parts and origin is tuple else (*parts[:1], Any)[:1] * len(stored)
        return origin(_value(inner, entry, name, faults) for inner, entry in zip(kinds, stored, strict=True))
    if isinstance(origin, type) and issubclass(origin, Enum):
        return origin(stored)
    allowed = {Literal: tuple(map(type, parts)), UnionType: parts}.get(origin, (kind,))
    found = float(stored) if type(stored) is int and float in allowed and int not in allowed else stored
    fits = kind is Any or type(found) in allowed
    if fits and kind is not Any and type(found) is float:
        fits = math.isfinite(found) and abs(found) <= most
    if not fits:
        bounded = f"number between -{most:g} and {most:g}" if most < math.inf else "finite number"
        faults.append(f"{name} is not a {bounded if kind is float else getattr(kind, '__name__', kind)}: {stored!r}")
    return found


def _instance(kind: Any, stored: dict[str, Any], faults: list[str]) -> Any:
    if version := getattr(kind, "VERSION", None):
        key, wanted = version
        if (found := stored.get(key, wanted)) != wanted:
            raise OtherVersion(f"{key.replace('_', ' ')} {found}, this layerpaths reads {wanted}")
    derived: tuple[str, ...] = getattr(kind, "DERIVED", ())
    also = {*derived, *(version or ())[:1]}
    places = {entry.metadata.get("at", entry.name): entry for entry in fields(kind)}
    flat = _flat(stored, {place.partition(".")[0] for place in places if "." in place})
    required = {place for place, entry in places.items() if entry.default is entry.default_factory is MISSING}
    if missing := sorted((required | also) - set(flat)):
        raise ValueError(f"{missing[0]} is missing")
    if (unknown := sorted(set(flat) - set(places) - also)) and not getattr(kind, "OPEN_ENDED", False):
        raise ValueError(f"unknown settings: {', '.join(unknown)}")
    hints = get_type_hints(kind)
    values = {
        entry.name: _value(hints[entry.name], flat[place], place, faults, entry.metadata.get("most", math.inf))
        for place, entry in places.items()
        if place in flat
    }
    built = kind(**values)
    if not faults and (unfit := [name for name in derived if encoded(getattr(built, name)) != flat[name]]):
        raise ValueError(f"{unfit[0]} does not fit the rest")
    return built


def _object(stored: Any, name: str) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise ValueError(f"{name} is not a dict: {stored!r}")
    return stored


def _flat(stored: dict[str, Any], outer: set[str]) -> dict[str, Any]:
    """Move the entries of inner objects to dotted names."""
    flat = {name: value for name, value in stored.items() if name not in outer}
    for name in outer & set(stored):
        flat |= {f"{name}.{inner}": value for inner, value in _object(stored[name], name).items()}
    return flat
