"""A run's folder: who may use it, what is done in it, and its tidying at the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .errors import ArtefactError, InputError, PathgenError
from .index import (
    INDEX_COLUMNS,
    READERS,
    Budgets,
    best_rows,
    in_preference,
    index,
    progress_files,
    read_tables,
    refuse_unreadable,
    shard_files,
)
from .lease import LEASE_NAME
from .records import PathRecord
from .runinfo import RunInfo
from .shards import (
    PATHS_FOLDER,
    PROGRESS_FOLDER,
    QUARANTINE_FOLDER,
    SCHEMA,
    UnreadableShard,
    from_table,
    quarantine,
    read_shard,
)
from .storage import TEMPORARY_PREFIX, list_files, open_folder, put, read_file, remove_leftovers

RUN_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder already holds of the questions asked for.

    Attributes:
        done: ids that need no more work.
        resume: by id not done, the files with stored evaluations of it, best first, relative to the folder.
        failed: by id whose committed record is a failed one, the attempts so far.
        quarantined: one line a file that could not be read.
        superseded: committed rows that another row of the same question outranks.
        others: committed questions that were not asked for; they stay.
    """

    done: frozenset[str]
    resume: dict[str, list[str]]
    failed: dict[str, int]
    quarantined: list[str]
    superseded: int
    others: int


class RunDirectory:
    """A run's folder, on a disk or an object store. Picklable arguments: make it anew from `out` anywhere.

    Args:
        out: path or URL of the folder.

    Attributes:
        fs: its file system.
        root: its path in there.
        paths: the folder of shards, `root` included.

    Raises:
        InputError: the URL's protocol is unknown or its package missing.
    """

    def __init__(self, out: str) -> None:
        self.out = out
        self.fs, self.root = open_folder(out)
        self.paths = f"{self.root}/{PATHS_FOLDER}"

    def check_usable(self) -> None:
        """See that a run may write here, without writing anything.

        Raises:
            InputError: it is a file, unreadable, or a folder that holds something else than a run.
        """
        try:
            is_file = self.fs.isfile(self.root)
            names = [] if is_file else list_files(self.fs, self.root)
        except (PathgenError, OSError) as error:
            raise InputError(f"--out {self.out} cannot be read ({error}); give another") from error
        if is_file:
            raise InputError(f"--out {self.out} is a file; give a folder")
        ours = {LEASE_NAME, PATHS_FOLDER, PROGRESS_FOLDER, QUARANTINE_FOLDER}
        foreign = [name for name in names if name not in ours and not name.startswith(TEMPORARY_PREFIX)]
        # run.json is written before all else, so shards without one are some other program's, or of unknown settings.
        foreign += shard_files(self.fs, self.root)
        if foreign and RUN_NAME not in names:
            raise InputError(
                f"--out {self.out} holds {foreign[0]} and no {RUN_NAME}, so it is no run; give a new folder"
            )

    def create(self) -> None:
        """Make the folder where there is none yet, after `check_usable`.

        Raises:
            InputError: as there, or nothing can be written here.
        """
        self.check_usable()
        probe = f"{self.root}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            self.fs.makedirs(self.paths, exist_ok=True)
            self.fs.pipe_file(probe, b"")
            self.fs.rm_file(probe)
        except OSError as error:
            raise InputError(
                f"--out {self.out} cannot be written ({error.strerror or error}); give another folder"
            ) from error

    def read_file(self, name: str) -> bytes | None:
        """A file's bytes, None if there is none of that name; errors as `storage.read_file`."""
        return read_file(self.fs, f"{self.root}/{name}")

    def info(self) -> RunInfo:
        """What run.json says.

        Raises:
            InputError: there is none, so this is no run's folder.
            ArtefactError: it is damaged, or of a newer schema version.
        """
        path = f"{self.root}/{RUN_NAME}"
        try:
            return RunInfo.from_json(self.fs.cat_file(path), path)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{self.out} holds no run ({RUN_NAME} is missing); give the --out of a `pathgen generate`"
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error})") from error

    def check_settings(self, wanted: RunInfo) -> RunInfo:
        """The run as it would stand under the wanted settings; nothing is written.

        Raises:
            ArtefactError: a setting differs that may not; the text holds a table of them.
        """
        if RUN_NAME not in list_files(self.fs, self.root):
            return wanted
        try:
            return self.info().continued_by(wanted)
        except ArtefactError as error:
            raise ArtefactError(f"{self.out} holds {error}") from None

    def expects_work(self, wanted: RunInfo) -> bool:
        """Whether a run of these wishes will find something to do, as far as run.json tells: False is a good guess.

        Errors as `info`.
        """
        if self.read_file(RUN_NAME) is None:
            return True
        stored = self.info()
        more = wanted.questions > stored.questions or stored.continued_by(wanted).settings != stored.settings
        return more or not stored.finished

    def begin(self, wanted: RunInfo) -> RunInfo:
        """Write run.json on the first call, check it and raise its budgets on later ones; the lease is held.

        Raises:
            ArtefactError: see `check_settings`.
        """
        info = self.check_settings(wanted)
        put(self.fs, f"{self.root}/{RUN_NAME}", info.to_json())
        for folder in ("", f"/{PATHS_FOLDER}", f"/{PROGRESS_FOLDER}", f"/{QUARANTINE_FOLDER}"):
            remove_leftovers(self.fs, self.root + folder)
        return info

    def scan(
        self, questions: Mapping[str, str], budgets: Budgets, writer: str | None = None, *, set_aside: bool = True
    ) -> Plan:
        """Find what is done and what can go on; unreadable files are quarantined. The lease is held.

        Args:
            questions: by id, the question's sha.
            budgets: what is wanted of each question.
            writer: look at this writer's files only, as after its death.
            set_aside: False leaves unreadable files where they are, and so needs no lease.

        Raises:
            ArtefactError: a question was edited since it was searched, or a newer layerpaths wrote a file.
        """
        while True:
            files = [*shard_files(self.fs, self.root, writer), *progress_files(self.fs, self.root, writer)]
            # An actor given up for dead may still tidy up after itself: look again then.
            with suppress(FileNotFoundError):
                tables, unreadable = read_tables(self.fs, self.root, files, INDEX_COLUMNS)
                break
        for file, reason in unreadable.items() if set_aside else ():
            quarantine(self.fs, self.root, file, reason)
        stored = index(tables)
        committed = stored.filter(pl.col("seq").is_not_null())

        wanted = pl.DataFrame(
            {"question_id": list(questions), "wanted_sha": list(questions.values())},
            schema={"question_id": pl.String, "wanted_sha": pl.String},
        )
        self._refuse_edited(stored.join(wanted, on="question_id"))
        best = best_rows(committed)
        asked = best.join(wanted, on="question_id", how="semi")
        done = asked.filter(budgets.reached())
        failed = committed.join(asked.filter(pl.col("status") == "failed"), on="question_id", how="semi")
        unfinished = (
            stored.filter(pl.col("status") != "failed")
            .join(wanted, on="question_id", how="semi")
            .join(done, on="question_id", how="anti")
        )
        resume = in_preference(unfinished).group_by("question_id", maintain_order=True).agg("file")
        return Plan(
            done=frozenset(done["question_id"]),
            resume={id_: list(dict.fromkeys(names)) for id_, names in resume.iter_rows()},
            failed=dict(failed.group_by("question_id").agg(pl.col("attempts").max()).iter_rows()),
            quarantined=list(unreadable.values()),
            superseded=committed.height - best.height,
            others=best.height - asked.height,
        )

    def load_record(self, files: Iterable[str], question_id: str) -> PathRecord | None:
        """The stored record of a question with the most simulations, its evaluations included.

        Args:
            files: where to look, as `Plan.resume` gives them.
            question_id: the question.

        Returns:
            None if no file is readable any more or none holds a record that has not failed.
        """
        found: list[PathRecord] = []
        for file in files:
            with suppress(UnreadableShard, FileNotFoundError):
                table = read_shard(self.fs, f"{self.root}/{file}")
                found += from_table(table.filter(pc.equal(table["question_id"], question_id)))
        found = [record for record in found if record.status != "failed"]
        return max(found, key=lambda record: record.simulations or 0, default=None)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The committed rows, each question once, as they are now; for readers, no lease needed.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        wanted = list(SCHEMA.names if columns is None else columns)
        needed = list(dict.fromkeys([*wanted, *INDEX_COLUMNS]))
        while True:
            # A run that tidies up replaces shards between the listing and the reading: look again then.
            with suppress(FileNotFoundError):
                files = shard_files(self.fs, self.root)
                tables, unreadable = read_tables(self.fs, self.root, files, needed)
                refuse_unreadable(self.out, unreadable)
                best = best_rows(index(tables).with_row_index("position"))
                rows = pa.concat_tables([SCHEMA.empty_table().select(needed), *tables.values()])
                is_best = np.zeros(rows.num_rows, dtype=bool)
                is_best[best["position"].to_numpy()] = True
                return rows.filter(pa.array(is_best)).select(wanted)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of `table`, in the same order, shard by shard beside an index of the light columns.

        No more than READERS shards are in memory at a time.

        Each question comes once, even if a run replaces shards meanwhile.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        wanted = list(SCHEMA.names if columns is None else columns)
        given: set[str] = set()
        while True:
            # As in `table`; what has been given before the shards were replaced is not given again.
            with suppress(FileNotFoundError):
                best = self._best().filter(~pl.col("question_id").is_in(given)).sort("file", "row")
                groups = [(str(file), rows["row"]) for (file,), rows in best.group_by("file", maintain_order=True)]
                for start in range(0, len(groups), READERS):
                    for table in self._take(groups[start : start + READERS], list({*wanted, "question_id"})):
                        yield table.select(wanted)
                        given.update(table["question_id"].to_pylist())
                return

    def find(self, question_id: str) -> dict[str, Any] | None:
        """The committed record of a question by column, None if there is none; only its own shard is decoded.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        while True:
            with suppress(FileNotFoundError):
                found = self._best().filter(pl.col("question_id") == question_id)
                if found.is_empty():
                    return None
                [table] = self._take([(found["file"][0], found["row"])], SCHEMA.names)
                return table.to_pylist()[0]

    def _best(self) -> pl.DataFrame:
        """The index of the committed rows that count, one a question.

        Raises:
            ArtefactError: a shard is unreadable.
            FileNotFoundError: one has gone since it was listed.
        """
        tables, unreadable = read_tables(self.fs, self.root, shard_files(self.fs, self.root), INDEX_COLUMNS)
        refuse_unreadable(self.out, unreadable)
        return best_rows(index(tables))

    def _take(self, rows_by_file: Sequence[tuple[str, pl.Series]], columns: Sequence[str]) -> list[pa.Table]:
        """Some rows of each of some shards; errors as `_best`."""
        tables, unreadable = read_tables(self.fs, self.root, [file for file, _ in rows_by_file], columns)
        refuse_unreadable(self.out, unreadable)
        return [tables[file].take(rows.to_arrow()).replace_schema_metadata() for file, rows in rows_by_file]

    def _refuse_edited(self, stored: pl.DataFrame) -> None:
        edited = stored.filter(pl.col("question_sha") != pl.col("wanted_sha"))["question_id"].unique().sort()
        if len(edited):
            names = ", ".join(edited.head(5)) + (", …" if len(edited) > 5 else "")
            raise ArtefactError(
                f"{self.out}: {len(edited)} questions were edited since they were searched ({names}); "
                "give them new ids or another --out"
            )
