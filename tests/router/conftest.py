"""The tiny models of many families are the engine tests' own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "pathgen"))
