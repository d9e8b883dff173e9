"""Finished systems of a benchmark, stored in a folder so that an interrupted benchmark resumes."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.program.json_codec import from_json, to_json
from pathgen.errors import InputError
from pathgen.identity import lasting, used_by
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.store.files import check_writable, list_files, open_folder, put, read_file

from .answers import Answer, Point, SystemResult
from .figures import BenchResult
from .inputs import BenchInputs, digest_of
from .options import BRIDGED
from .timing import Timing

FORMAT_VERSION = 4
"""Part of each key. A higher number makes all stored results stale."""
SYSTEMS_FOLDER = "systems"
BENCH_NAME = "bench.json"


@dataclass(frozen=True, slots=True)
class _Head:
    """A file's first line."""

    system: str
    setting: float | str | None
    points: tuple[Point, ...]
    questions: int


class ResultStore:
    """`OUT/systems/<name>-<key>.jsonl`: a line about the system, then one per question. `OUT/timings/<key>.json`.

    Raises:
        InputError: `out` is a file, or a folder with other content.
        PathgenError: a file cannot be written.
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
        """The result of a finished system; None if its file is absent or damaged."""
        try:
            lines = self._fs.cat_file(self._path(name, key)).splitlines()
            head, answers = from_json(_Head, lines[0]), tuple(from_json(Answer, line) for line in lines[1:])
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return SystemResult(answers, head.setting, head.points) if len(answers) == head.questions else None

    def save(self, name: str, key: str, result: SystemResult) -> None:
        """Store the result of a finished system."""
        head = _Head(name, result.setting, result.points, len(result.answers))
        put(self._fs, self._path(name, key), b"".join(map(to_json, (head, *result.answers))))

    def load_timings(self, key: str) -> dict[str, Timing] | None:
        """Stored timings of the same systems; None if their file is absent or damaged."""
        content = read_file(self._fs, self._timings_path(key))
        try:
            return from_json(dict[str, Timing], content or b"")
        except ValueError:
            return None

    def save_timings(self, key: str, timings: Mapping[str, Timing]) -> None:
        """Store timings."""
        put(self._fs, self._timings_path(key), to_json(timings))

    def save_bench(self, bench: BenchResult) -> None:
        """Store the final figures."""
        put(self._fs, f"{self._root}/{BENCH_NAME}", to_json(bench, indent=1))

    def _path(self, name: str, key: str) -> str:
        return f"{self._root}/{SYSTEMS_FOLDER}/{name}-{key}.jsonl"

    def _timings_path(self, key: str) -> str:
        return f"{self._root}/timings/{key}.json"


def result_key(name: str, inputs: BenchInputs, questions: Sequence[Question], seed: int) -> str:
    """Hash of everything that a system's answers depend on, 16 hex digits."""
    routers = {name: given.digest for name, given in inputs.routers.items()}
    fitted = digest_of(list(inputs.static.best.path) if inputs.static else None, _searched(inputs.fit))
    reference = routers[inputs.reference] if inputs.reference else fitted
    depends_on: dict[str, object] = {
        "oracle": [
            _searched(inputs.records.values()),
            searched.digest if (searched := inputs.searched_bridges) else None,
        ],
        "static": fitted,
        "random": [reference, seed],
        "shortgpt": [reference, fitted],
        "early_exit": reference,
        "repeat_block": fitted,
        "search": seed,
        "shuffled": [reference, seed],
        **routers,
    }
    own = depends_on.get(name.removesuffix(BRIDGED))
    if name.endswith(BRIDGED) and inputs.bridges:
        own = [own, inputs.bridges.digest]
    hardware = inputs.device.partition(":")[0]  # kinds of device round differently; two GPUs do not
    used = lasting(used_by(inputs.fingerprint, chat=bool(inputs.chat), generates=inputs.task.generates))
    model = [used, inputs.dtype, hardware, inputs.task.describe(inputs.chat)]
    asked = [[question.id, question.sha] for question in questions]
    return digest_of(FORMAT_VERSION, name, model, asked, own)


def timing_key(results: Sequence[str], batch_size: int, environment: Mapping[str, object]) -> str:
    """Hash of everything that times depend on, 16 hex digits; `results` are the keys of the systems' answers."""
    return digest_of(FORMAT_VERSION, list(results), batch_size, dict(environment), platform.node())


def _searched(records: Iterable[PathRecord]) -> list[list[object]]:
    return [[record.question_sha, record.simulations, list(record.best_path or ())] for record in records]
