"""A run's folder: whether a run may use it, and what it already contains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.compute as pc

from ..bridges.folder import read_bridges
from ..errors import ArtefactError, InputError, PathgenError, StoreOutage, some
from ..paths.records import PathRecord
from .committed import CommittedRows
from .files import TEMPORARY_PREFIX, check_writable, list_files, open_folder, put, read_file, refusals, remove_leftovers
from .folder_lock import LEASE_NAME
from .index import INDEX_COLUMNS, Budgets, best_rows, in_preference, index, progress_files, read_all, shard_files
from .run_json import RunInfo
from .schema import UnreadableShard, from_table
from .shards import PATHS_FOLDER, PROGRESS_FOLDER, QUARANTINE_FOLDER, quarantine, read_shard

if TYPE_CHECKING:
    from ..bridges.maps import Bridges

RUN_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """What a folder already contains of the wanted questions.

    Attributes:
        done: ids that need no more work.
        resume: for each other id with stored evaluations, the files with them, best first, relative to the folder.
        failed: for each id whose committed record has failed, the attempts so far.
        quarantined: one line per unreadable file, with what happens to it.
        superseded: number of committed rows that do not count, as another row of the same question does.
    """

    done: frozenset[str]
    resume: dict[str, list[str]]
    failed: dict[str, int]
    quarantined: list[str]
    superseded: int


class RunDirectory:
    """A run's folder, on a disk or an object store; `out` is its path or URL.

    Attributes:
        fs: its file system.
        root: its path there.
        paths: the folder of shards, `root` included.
        committed: its rows, for readers.

    Raises:
        InputError: the URL's protocol is unknown, or its package is missing.
    """

    def __init__(self, out: str) -> None:
        self.out = out
        self.fs, self.root = open_folder(out)
        self.paths = f"{self.root}/{PATHS_FOLDER}"
        self.committed = CommittedRows(self.fs, self.root, out)

    def check_usable(self) -> None:
        """Check that a run may write here; nothing is written.

        Raises:
            InputError: the place is a file, is unreadable, or is a folder with something other than a run.
            StoreOutage: the store is busy or out of reach.
        """
        try:
            with refusals(self.fs, "look up", self.root):
                taken = self.fs.isfile(self.root)
            names = [] if taken else list_files(self.fs, self.root)
        except StoreOutage:
            raise
        except PathgenError as error:
            raise InputError(f"--out {self.out} cannot be read ({error}); give another") from error
        if taken:
            raise InputError(f"--out {self.out} is a file; give a folder")
        ours = {LEASE_NAME, PATHS_FOLDER, PROGRESS_FOLDER, QUARANTINE_FOLDER}
        foreign = [name for name in names if name not in ours and not name.startswith(TEMPORARY_PREFIX)]
        # run.json is written first, so shards without one are another program's, or have unknown settings.
        foreign += shard_files(self.fs, self.root)
        if foreign and RUN_NAME not in names:
            raise InputError(
                f"--out {self.out} holds {foreign[0]} but no {RUN_NAME}, so it is not a run; give a new folder"
            )

    def create(self) -> None:
        """Make the folder if it does not exist; errors as in `check_usable` and `check_writable`."""
        self.check_usable()
        check_writable(self.fs, self.paths, f"--out {self.out}")

    def read_file(self, name: str) -> bytes | None:
        """A file's bytes, None if it does not exist; PathgenError if the file system refuses."""
        return read_file(self.fs, f"{self.root}/{name}")

    @property
    def holds_run(self) -> bool:
        """Whether a run has begun here; errors as in `read_file`."""
        return self.read_file(RUN_NAME) is not None

    def bridges(self, info: RunInfo) -> Bridges | None:
        """The bridges that ran where paths of this run skip; None without. Errors as `read_bridges`."""
        return read_bridges(self.read_file, self.out, info.fingerprint) if info.bridges else None

    def info(self) -> RunInfo:
        """The content of run.json.

        Raises:
            InputError: there is no run.json, so this is not the folder of a run.
            ArtefactError: run.json is damaged, or has a newer schema version.
        """
        content = self.read_file(RUN_NAME)
        if content is None:
            raise InputError(f"{self.out} holds no run ({RUN_NAME} is missing); give the --out of a `pathgen generate`")
        return RunInfo.from_json(content, f"{self.root}/{RUN_NAME}")

    def check_settings(self, wanted: RunInfo) -> RunInfo:
        """The run as it would be under the wanted settings; nothing is written.

        Raises:
            ArtefactError: a setting differs that must not; the text has a table of them.
        """
        if not self.holds_run:
            return wanted
        try:
            return self.info().continued_by(wanted)
        except ArtefactError as error:
            raise ArtefactError(f"{self.out} holds {error}") from None

    def expects_work(self, wanted: RunInfo) -> bool:
        """Whether run.json suggests that the wanted run has work to do; a guess. Errors as in `info`."""
        if not self.holds_run:
            return True
        stored = self.info()
        more = wanted.questions > stored.questions or stored.continued_by(wanted).settings != stored.settings
        return more or not stored.finished

    def begin(self, wanted: RunInfo, guard: Callable[[], object]) -> RunInfo:
        """Write run.json: new on the first call; on later calls checked, and with raised budgets.

        Args:
            wanted: the run.
            guard: called before anything is written or deleted; raises when the lease is lost.

        Raises:
            ArtefactError: as in `check_settings`.
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
    ) -> ResumePlan:
        """Find which questions are done, and which can continue.

        Args:
            questions: the wanted questions, sha by id.
            budgets: when a question is done.
            writer: read only the files of this writer, for example after its death.
            guard: called before an unreadable file is quarantined; raises when the lease is lost. Without a guard
                unreadable files stay where they are.

        Raises:
            ArtefactError: a question was edited after it was searched, or a newer layerpaths wrote a file.
        """

        def listing() -> list[str]:
            return [*shard_files(self.fs, self.root, writer), *progress_files(self.fs, self.root, writer)]

        tables, unreadable = read_all(self.fs, self.root, listing, INDEX_COLUMNS)
        then = "a run would set it aside"
        if guard is not None:
            then = f"moved to {QUARANTINE_FOLDER}, its questions are searched again"
            for file, reason in unreadable.items():
                guard()
                quarantine(self.fs, self.root, file, reason)
        stored = index(tables)
        committed = stored.filter(pl.col("seq").is_not_null())

        wanted = pl.DataFrame(
            {"question_id": list(questions), "wanted_sha": list(questions.values())},
            schema={"question_id": pl.String, "wanted_sha": pl.String},
        )
        edited = stored.join(wanted, on="question_id").filter(pl.col("question_sha") != pl.col("wanted_sha"))
        if not edited.is_empty():
            ids = edited["question_id"].unique().sort().to_list()
            raise ArtefactError(
                f"{self.out}: {len(ids)} questions were edited since they were searched ({some(ids)}); "
                "give them new ids or another --out"
            )
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
        return ResumePlan(
            done=frozenset(done["question_id"]),
            resume={id_: list(dict.fromkeys(names)) for id_, names in resume.iter_rows()},
            failed=dict(failed.group_by("question_id").agg(pl.col("attempts").max()).iter_rows()),
            quarantined=[f"{reason}; {then}" for reason in unreadable.values()],
            superseded=committed.height - best.height,
        )

    def load_record(self, files: Iterable[str], question_id: str) -> PathRecord | None:
        """The record of a question with the most simulations among some files, as `ResumePlan.resume` names them.

        None if no readable file is left, or none has a record that has not failed.
        """
        found: list[PathRecord] = []
        for file in files:
            with suppress(UnreadableShard, FileNotFoundError):
                table = read_shard(self.fs, f"{self.root}/{file}")
                found += from_table(table.filter(pc.equal(table["question_id"], question_id)))
        found = [record for record in found if record.status != "failed"]
        return max(found, key=lambda record: record.simulations or 0, default=None)
