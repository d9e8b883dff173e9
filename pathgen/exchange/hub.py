"""Exports a run as a dataset of the Hugging Face hub, with Parquet files and a card: to a folder, or uploaded."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import InputError, PathgenError
from ..store.dataset_card import CARD_NAME, card_text
from ..store.files import TEMPORARY_PREFIX
from ..store.provenance import ShardMetadata
from ..store.run_folder import RunDirectory
from ..store.run_json import RunInfo
from ..store.schema import SCHEMA

DATA_FOLDER = "data"
HUB_PREFIX = "hf://datasets/"
FILE_BYTES = 256 << 20
"""Decoded size of a file's rows; the file is much smaller."""


def export_to_hub(out: str, target: str, *, dry_run: bool = False, public: bool = False) -> dict[str, Any]:
    """Write a run's committed records as a dataset, each question once.

    Args:
        out: the run's folder.
        target: a new folder, or `hf://datasets/OWNER/NAME`: a repository of the hub. It is created if needed, and one
            commit replaces the files of an earlier export. The hub's client finds the token.
        dry_run: write and upload nothing.
        public: whether a newly created repository is public.

    Returns:
        A JSON object; `files` maps names to sizes in bytes.

    Raises:
        InputError: no run, no records, an unusable target, or the folder exists.
        ArtefactError: a shard is unreadable.
        PathgenError: the disk or the hub refuses.
    """
    repository = _repository(target)
    parent = Path(target).parent
    if repository is None:
        if Path(target).exists():
            raise InputError(f"--out {target} exists already; give a new folder, or {HUB_PREFIX}OWNER/NAME")
        if not parent.is_dir():
            raise InputError(f"--out {target}: there is no folder {parent}")
    directory = RunDirectory(out)
    info = directory.info()
    try:
        place = None if repository or dry_run else parent
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=place) as temporary:
            folder = Path(temporary) / "dataset"
            counts = _write(directory, info, folder)
            files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*.*"))}
            if repository and not dry_run:
                _upload(folder, repository, public=public)
            elif not dry_run:
                folder.rename(target)
    except OSError as error:
        raise PathgenError(f"cannot write {target}: {error.strerror or error}") from error
    report = {"out": out, "format": "hub", "file": target, "records": counts.total(), "left_out": 0}
    return {**report, "files": files, "dry_run": dry_run}


def _repository(target: str) -> str | None:
    """OWNER/NAME of a hub URL; None for a folder."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if "://" not in target:
        return None
    repository = target.removeprefix(HUB_PREFIX)
    try:
        validate_repo_id(repository)
    except HFValidationError:
        repository = ""
    if not target.startswith(HUB_PREFIX) or repository.count("/") != 1:
        raise InputError(f"--out {target}: give a folder or {HUB_PREFIX}OWNER/NAME")
    return repository


def _write(directory: RunDirectory, info: RunInfo, folder: Path) -> Counter[str]:
    """Write the dataset's folder. Returns the number of records by status."""
    data = folder / DATA_FOLDER
    data.mkdir(parents=True)
    schema = SCHEMA.with_metadata(ShardMetadata.here(info.model_id, info.fingerprint, info.task).key_values())
    counts: Counter[str] = Counter()
    files: list[Path] = []
    writer: pq.ParquetWriter | None = None
    room = 0
    for batch in directory.committed.batches():
        if writer is None or room <= 0:
            if writer is not None:
                writer.close()
            files.append(data / f"{len(files):05d}")
            writer, room = pq.ParquetWriter(files[-1], schema, compression="zstd", store_schema=False), FILE_BYTES
        table = pa.table(batch.columns, schema=schema)
        writer.write_table(table)
        room -= table.nbytes
        counts.update({entry["values"]: entry["counts"] for entry in pc.value_counts(table["status"]).to_pylist()})
    if writer is None:
        raise InputError(f"{directory.out} holds no records yet")
    writer.close()
    for number, file in enumerate(files):
        file.rename(data / f"train-{number:05d}-of-{len(files):05d}.parquet")
    card = card_text(info, {"questions": counts.total(), **counts}, f"{DATA_FOLDER}/train-*.parquet")
    (folder / CARD_NAME).write_text(card)
    return counts


def _upload(folder: Path, repository: str, *, public: bool) -> None:
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Layer paths by layerpaths",
            delete_patterns=f"{DATA_FOLDER}/*.parquet",
        )
    except Exception as error:  # the hub's client raises many kinds
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise PathgenError(f"the hub refused dataset {repository}: {reason}") from error
