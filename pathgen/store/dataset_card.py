"""The dataset card that makes a run's folder a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import yaml
from fsspec import AbstractFileSystem

from .files import put
from .run_json import RunInfo
from .shards import PATHS_FOLDER

CARD_NAME = "README.md"

_TEXT = """\
# Layer paths of {model} on {task}

Which layers a frozen language model can skip or run twice, searched separately for each question.
Each row is one question with every path that was tried: 0 skips a layer, 1 runs it, 2 runs it twice in a row.

```python
import datasets, polars

datasets.load_dataset("FOLDER")
polars.read_parquet("FOLDER/{files}")
```

| column | meaning |
|---|---|
| `status` | `improved`: full depth wrong, best path right; `kept`: full depth right; `unsolved`, `failed` |
| `best_path`, `best_depth` | the cheapest right path, and the layers that it executes in one forward pass |
| `base_margin`, `best_margin` | margin of the right answer, in nats, at full depth and along the best path |
| `evaluations` | all paths that were run; `simulation` 0 is full depth |

The right answer is used to choose the best paths. Among many paths some reach any answer that is nearly as likely as
the model's own, so the share of questions that some path solves is not a gain by itself. `pathgen stats FOLDER` also
prints a placebo: the share of questions where some path reaches an equally likely wrong answer. Only the excess over
the placebo can be more than chance, and it is an upper bound, as the search looked only for the right answer.

| | |
|---|---|
{rows}
"""


def write_card(
    fs: AbstractFileSystem, out: str, info: RunInfo, summary: Mapping[str, object], guard: Callable[[], object]
) -> None:
    """Write README.md with the figures of `summary`, which are empty before the first shard; errors as in `put`."""
    put(fs, f"{out}/{CARD_NAME}", card_text(info, summary, f"{PATHS_FOLDER}/*.parquet").encode(), guard=guard)


def card_text(info: RunInfo, summary: Mapping[str, object], files: str) -> str:
    """The card of a folder whose Parquet files have names like `files`."""
    configs = [{"config_name": "default", "data_files": files}]
    front = yaml.safe_dump({"tags": ["layerpaths"], "configs": configs}, sort_keys=False)
    facts = {"model": info.model_id, "fingerprint": info.fingerprint, "task": info.task, "source": info.source}
    facts |= info.settings | dict(summary)
    rows = "\n".join(f"| {name} | {value} |".replace("\n", " ") for name, value in facts.items())
    text = _TEXT.format(model=info.model_id, task=info.task, files=files, rows=rows)
    return f"---\n{front}---\n{text}"
