"""A run's folder: who may use it, and what is done in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import polars as pl
import pyarrow.compute as pc

from ..errors import ArtefactError, InputError, PathgenError, StoreOutage, some
from ..paths.records import PathRecord
from .committed import CommittedRows
from .files import TEMPORARY_PREFIX, check_writable, is_file, list_files, open_folder, put, read_file, remove_leftovers
from .folder_lock import LEASE_NAME
from .index import INDEX_COLUMNS, Budgets, best_rows, in_preference, index, progress_files, read_all, shard_files
from .run_json import RunInfo
from .shards import (
    PATHS_FOLDER,
    PROGRESS_FOLDER,
    QUARANTINE_FOLDER,
    UnreadableShard,
    from_table,
    quarantine,
    read_shard,
)

RUN_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder already holds of the questions asked for.

    Attributes:
        done: ids that need no more work.
        resume: by id not done, the files with stored evaluations of it, best first, relative to the folder.
        failed: by id whose committed record is a failed one, the attempts so far.
        quarantined: one line a file that could not be read, and what becomes of it.
        superseded: committed rows that another row of the same question outranks.
    """

    done: frozenset[str]
    resume: dict[str, list[str]]
    failed: dict[str, int]
    quarantined: list[str]
    superseded: int


class RunDirectory:
    """A run's folder, on a disk or an object store. Picklable arguments: make it anew from `out` anywhere.

    Args:
        out: path or URL of the folder.

    Attributes:
        fs: its file system.
        root: its path in there.
        paths: the folder of shards, `root` included.
        committed: its rows, for readers.

    Raises:
        InputError: the URL's protocol is unknown or its package missing.
    """

    def __init__(self, out: str) -> None:
        self.out = out
        self.fs, self.root = open_folder(out)
        self.paths = f"{self.root}/{PATHS_FOLDER}"
        self.committed = CommittedRows(self.fs, self.root, out)

    def check_usable(self) -> None:
        """See that a run may write here, without writing anything.

        Raises:
            InputError: it is a file, unreadable, or a folder that holds something else than a run.
            StoreOutage: the store is busy or out of reach.
        """
        try:
            taken = is_file(self.fs, self.root)
            names = [] if taken else list_files(self.fs, self.root)
        except StoreOutage:
            raise
        except PathgenError as error:
            raise InputError(f"--out {self.out} cannot be read ({error}); give another") from error
        if taken:
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
        check_writable(self.fs, self.paths, f"--out {self.out}")

    def read_file(self, name: str) -> bytes | None:
        """A file's bytes, None if there is none of that name; errors as `storage.read_file`."""
        return read_file(self.fs, f"{self.root}/{name}")

    @property
    def holds_run(self) -> bool:
        """Whether a run has begun here; errors as `storage.read_file`."""
        return self.read_file(RUN_NAME) is not None

    def info(self) -> RunInfo:
        """What run.json says.

        Raises:
            InputError: there is none, so this is no run's folder.
            ArtefactError: it is damaged, or of a newer schema version.
        """
        path = f"{self.root}/{RUN_NAME}"
        content = read_file(self.fs, path)
        if content is None:
            raise InputError(f"{self.out} holds no run ({RUN_NAME} is missing); give the --out of a `pathgen generate`")
        return RunInfo.from_json(content, path)

    def check_settings(self, wanted: RunInfo) -> RunInfo:
        """The run as it would stand under the wanted settings; nothing is written.

        Raises:
            ArtefactError: a setting differs that may not; the text holds a table of them.
        """
        if not self.holds_run:
            return wanted
        try:
            return self.info().continued_by(wanted)
        except ArtefactError as error:
            raise ArtefactError(f"{self.out} holds {error}") from None

    def expects_work(self, wanted: RunInfo) -> bool:
        """Whether a run of these wishes will find something to do, as far as run.json tells: False is a good guess.

        Errors as `info`.
        """
        if not self.holds_run:
            return True
        stored = self.info()
        more = wanted.questions > stored.questions or stored.continued_by(wanted).settings != stored.settings
        return more or not stored.finished

    def begin(self, wanted: RunInfo, guard: Callable[[], object]) -> RunInfo:
        """Write run.json on the first call, check it and raise its budgets on later ones.

        Args:
            wanted: the run.
            guard: called before anything is written or deleted; raises when the lease is lost.

        Raises:
            ArtefactError: see `check_settings`.
        """
        info = self.check_settings(wanted)
        put(self.fs, f"{self.root}/{RUN_NAME}", info.to_json(), guard=guard)
        for folder in ("", f"/{PATHS_FOLDER}", f"/{PROGRESS_FOLDER}", f"/{QUARANTINE_FOLDER}"):
            remove_leftovers(self.fs, self.root + folder)
        return info

    def scan(
        self,
        questions: Mapping[str, str],
        budgets: Budgets,
        writer: str | None = None,
        *,
        guard: Callable[[], object] | None = None,
    ) -> Plan:
        """Find what is done and what can go on.

        Args:
            questions: by id, the question's sha.
            budgets: what is wanted of each question.
            writer: look at this writer's files only, as after its death.
            guard: called before an unreadable file is quarantined; raises when the lease is lost. None leaves such
                files where they are.

        Raises:
            ArtefactError: a question was edited since it was searched, or a newer layerpaths wrote a file.
        """

        def listing() -> list[str]:
            return [*shard_files(self.fs, self.root, writer), *progress_files(self.fs, self.root, writer)]

        tables, unreadable = read_all(self.fs, self.root, listing, INDEX_COLUMNS)
        then = "a run would set it aside"
        if guard is not None:
            then = "moved to .quarantine, its questions are searched again"
            for file, reason in unreadable.items():
                guard()
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
            quarantined=[f"{reason}; {then}" for reason in unreadable.values()],
            superseded=committed.height - best.height,
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

    def _refuse_edited(self, stored: pl.DataFrame) -> None:
        edited = stored.filter(pl.col("question_sha") != pl.col("wanted_sha"))["question_id"].unique().sort().to_list()
        if edited:
            raise ArtefactError(
                f"{self.out}: {len(edited)} questions were edited since they were searched ({some(edited)}); "
                "give them new ids or another --out"
            )
