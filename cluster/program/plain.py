"""Typed results as JSON values: what `--json` prints, and what a folder keeps of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

SPLICED = {"spliced": True}
"""Metadata of a field that holds a dataclass: its keys stand in place of the field."""


def plain(value: Any) -> Any:
    """Dataclasses as objects, in the order of their fields; NaN and Inf, which JSON lacks, as null."""
    if is_dataclass(value):
        found: dict[str, Any] = {}
        for field in fields(value):
            inner = plain(getattr(value, field.name))
            found |= inner if "spliced" in field.metadata else {field.name: inner}
        return found
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
