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

Which layers a frozen language model may skip or run twice, searched question by question.
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
| `base_margin`, `best_margin` | how far the answer is right, in nats, at full depth and along the best path |
| `evaluations` | all paths that were run, `simulation` 0 being full depth |

Best paths are chosen with gold. Among many paths some reach any answer that was nearly given, so the share of
questions that some path solves is no gain by itself: `pathgen stats FOLDER` sets a placebo beside it, the share
that reaches an equally likely wrong answer. At most the excess is more than chance: the search looked for gold alone.

| | |
|---|---|
{rows}
"""


def write_card(
    fs: AbstractFileSystem, out: str, info: RunInfo, summary: Mapping[str, object], guard: Callable[[], object]
) -> None:
    """Write README.md: before the first shard with an empty summary, and again at the end.

    Args:
        fs: file system of the run.
        out: the run's folder.
        info: the run.
        summary: figures by name, shown as they are.
        guard: called before it is written; raises when the lease is lost.

    Raises:
        PathgenError: the file system refuses.
    """
    put(fs, f"{out}/{CARD_NAME}", card_text(info, summary, f"{PATHS_FOLDER}/*.parquet").encode(), guard=guard)


def card_text(info: RunInfo, summary: Mapping[str, object], files: str) -> str:
    """The card of a folder whose Parquet files have names like `files`, figures as in `write_card`."""
    front = yaml.safe_dump(
        {"tags": ["layerpaths"], "configs": [{"config_name": "default", "data_files": files}]}, sort_keys=False
    )
    facts = {
        "model": info.model_id,
        "fingerprint": info.fingerprint,
        "task": info.task,
        "source": info.source,
        **info.settings,
        **summary,
    }
    rows = "\n".join(f"| {name} | {value} |".replace("\n", " ") for name, value in facts.items())
    text = _TEXT.format(model=info.model_id, task=info.task, files=files, rows=rows)
    return f"---\n{front}---\n{text}"
