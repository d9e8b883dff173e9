"""The origin of records: the model, the task, and the code that searched."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

SHARD_VERSION = 3
"""Version of the shards. It rises with each change of the columns; older files stay readable."""

VERSION_KEY = "layerpaths.schema_version"
_PREFIX = "layerpaths."


@dataclass(frozen=True, slots=True)
class ShardMetadata:
    """The origin of a shard's records, stored as key-value metadata of the Parquet file.

    Attributes:
        model_id: alias, hub id or folder of the model.
        fingerprint: of the model's weights.
        package_version: of layerpaths.
        git_commit: of the checkout that ran, empty if layerpaths was installed otherwise.
    """

    model_id: str
    fingerprint: str
    task: str
    package_version: str
    git_commit: str

    @classmethod
    def here(cls, model_id: str, fingerprint: str, task: str) -> ShardMetadata:
        """The origin of records made now, with the version and commit of the running code."""
        return cls(model_id, fingerprint, task, version("layerpaths"), _git_commit())

    @classmethod
    def of(cls, table: pa.Table) -> ShardMetadata:
        """The metadata of a table from `read_shard`."""
        stored = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        return cls(**{name: stored.get(_PREFIX + name, "") for name in cls.__dataclass_fields__})

    def key_values(self) -> dict[str, str]:
        """As Parquet key-value metadata, the schema version included."""
        return {VERSION_KEY: str(SHARD_VERSION)} | {_PREFIX + name: value for name, value in asdict(self).items()}


def _git_commit() -> str:
    root = Path(__file__).resolve().parents[2]
    try:
        command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    top, commit = answer.stdout.split("\n")[:2]
    # An installed copy may be inside another project's checkout, whose commit says nothing about this code.
    return commit if Path(top) == root else ""
