"""The tiny models of many families are the engine tests' own, the hand-made runs the router tests'."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / package) for package in ("pathgen", "router")]
