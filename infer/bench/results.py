"""Finished systems of a benchmark, kept in a folder so that an interrupted one goes on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.program.json_codec import from_json, to_json
from cluster.program.plain import plain
from pathgen.errors import InputError
from pathgen.questions.question import Question
from pathgen.store.files import check_writable, list_files, open_folder, put, read_file

from .answers import Answer, Point, SystemResult
from .figures import BenchResult
from .inputs import BenchInputs, digest_of
from .timing import Timing

FORMAT_VERSION = 1
"""It rises when what a system does changes, so that results of before are not taken for its own."""
SYSTEMS_FOLDER = "systems"
TIMINGS_FOLDER = "timings"
BENCH_NAME = "bench.json"


@dataclass(frozen=True, slots=True)
class _Head:
    """A file's first line."""

    system: str
    setting: float | str | None
    points: tuple[Point, ...]
    questions: int


class ResultStore:
    """`OUT/systems/<name>-<key>.jsonl`: a line about the system, then one a question. `OUT/timings/<key>.json`.

    Args:
        out: path or URL of the folder.

    Raises:
        InputError: it is a file, or holds something else.
    """

    def __init__(self, out: str):
        self._fs, self._root = open_folder(out)
        if self._fs.isfile(self._root):
            raise InputError(f"--out {out} is a file; give a folder")
        foreign = [name for name in list_files(self._fs, self._root) if name not in (SYSTEMS_FOLDER, BENCH_NAME)]
        if foreign and not self._fs.exists(f"{self._root}/{SYSTEMS_FOLDER}"):
            raise InputError(f"--out {out} holds {foreign[0]} and no benchmark; give a new folder")
        check_writable(self._fs, f"{self._root}/{SYSTEMS_FOLDER}", f"--out {out}")

    def load(self, name: str, key: str) -> SystemResult | None:
        """A finished system's result; None if there is none, or its file is damaged."""
        try:
            lines = self._fs.cat_file(self._path(name, key)).splitlines()
            head, answers = from_json(_Head, lines[0]), tuple(from_json(Answer, line) for line in lines[1:])
        except (FileNotFoundError, ValueError, IndexError):
            return None  # it is run again, and the file written anew
        return SystemResult(answers, head.setting, head.points) if len(answers) == head.questions else None

    def save(self, name: str, key: str, result: SystemResult) -> None:
        """Keep a finished system.

        Raises:
            PathgenError: the file system refuses.
        """
        head = _Head(name, result.setting, result.points, len(result.answers))
        put(self._fs, self._path(name, key), b"".join(map(to_json, (head, *result.answers))))

    def load_timings(self, key: str) -> dict[str, Timing] | None:
        """What was measured of the same systems before; None if there is nothing, or its file is damaged."""
        content = read_file(self._fs, self._timings_path(key))
        if content is None:
            return None
        try:
            return from_json(dict[str, Timing], content)
        except ValueError:
            return None  # they are timed again, and the file written anew

    def save_timings(self, key: str, timings: Mapping[str, Timing]) -> None:
        """Keep what was measured.

        Raises:
            PathgenError: the file system refuses.
        """
        put(self._fs, self._timings_path(key), to_json(timings))

    def save_bench(self, bench: BenchResult) -> None:
        """Keep the final figures."""
        put(self._fs, f"{self._root}/{BENCH_NAME}", to_json(plain(bench), indent=1))

    def _path(self, name: str, key: str) -> str:
        return f"{self._root}/{SYSTEMS_FOLDER}/{name}-{key}.jsonl"

    def _timings_path(self, key: str) -> str:
        return f"{self._root}/{TIMINGS_FOLDER}/{key}.json"


def result_key(name: str, inputs: BenchInputs, questions: Sequence[Question], seed: int) -> str:
    """16 hex digits over all that a system's answers rest on: other inputs, other file."""
    reference = inputs.reference
    borrowed = inputs.routers[reference].digest if reference else inputs.fit_digest
    rests_on: dict[str, Callable[[], object]] = {
        "full": lambda: None,
        "oracle": lambda: inputs.records_digest,
        "static": lambda: inputs.fit_digest,
        "random": lambda: [borrowed, seed],
        "shortgpt": lambda: [borrowed, inputs.fit_digest],
        "early_exit": lambda: borrowed,
        "repeat_block": lambda: inputs.fit_digest,
        "search": lambda: seed,
        "shuffled": lambda: [borrowed, seed],
    }
    own = rests_on[name]() if name in rests_on else inputs.routers[name].digest if name in inputs.routers else None
    hardware = inputs.device.partition(":")[0]  # kinds of device round differently, one GPU as the other
    model = [inputs.fingerprint, inputs.dtype, hardware, inputs.task.describe(inputs.chat)]
    asked = [[question.id, question.sha] for question in questions]
    return digest_of(FORMAT_VERSION, name, model, asked, own)


def timing_key(results: Sequence[str], batch_size: int, environment: Mapping[str, object]) -> str:
    """16 hex digits over all that seconds rest on.

    Args:
        results: keys of the systems' answers, which tell the questions and the model too.
        batch_size: of the rate.
        environment: what they are measured with; the machine's name is added to it.
    """
    return digest_of(FORMAT_VERSION, list(results), batch_size, dict(environment), platform.node())
