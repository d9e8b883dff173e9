"""The bias: one number that makes a router go shallower or deeper than trained."""

from __future__ import annotations

import math
from typing import Annotated

from cluster.program.options import option
from pathgen.errors import InputError

Bias = Annotated[float, option("Added to SKIP and subtracted from REPEAT logits: 0 as trained, positive shallower.")]


def check_bias(bias: object) -> None:
    """Raise InputError if the bias is not a finite number."""
    if not isinstance(bias, (int, float)) or not math.isfinite(bias):
        raise InputError(f"--bias must be a finite number; got {bias}")
