"""Answers of many ways to run a model on the same questions, as JSON lines that are added to.

A line is {"id": ID, "gold": INDEX, "ways": {NAME: {"path": PATH, "scores": [FLOAT, …], "kl": NATS}}}. A way is a path,
plain or over bridges; the way `full` is full depth. Several lines of one question add up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathgen.errors import InputError
from pathgen.evaluation.divergence import Difference
from pathgen.paths.layer_path import LayerPath

FULL = "full"
ALL = ("",)
"""What every way's name begins with."""
NO_CHOICE = -1
"""The choice of a way whose scores are not finite."""

Ways = dict[str, dict[str, Any]]
"""What one question's lines hold, by the ways' names."""


@dataclass(frozen=True, eq=False)
class StoredAnswers:
    """W ways on Q questions; the first is full depth.

    Attributes:
        choices: [W, Q] index of the choice taken, or NO_CHOICE.
        gold: [Q] index of the right choice.
        gaps: [W, Q] score of the best choice minus that of the second best, in nats.
        divergences: [W, Q] KL(full ‖ way), in nats.
    """

    names: tuple[str, ...]
    paths: tuple[LayerPath, ...]
    choices: NDArray[np.int_]
    gold: NDArray[np.int_]
    gaps: NDArray[np.float64]
    divergences: NDArray[np.float64]

    @property
    def num_layers(self) -> int:
        """Of the model."""
        return len(self.paths[0])

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[W, Q]."""
        return self.choices == self.gold

    @property
    def differs(self) -> NDArray[np.bool_]:
        """[W, Q] whether the answer is not that of full depth."""
        return self.choices != self.choices[0]

    @property
    def shallower(self) -> list[int]:
        """Indices of the ways below full depth, the deepest first; equal depths in the file's order."""
        below = [index for index, path in enumerate(self.paths) if path.depth < self.num_layers]
        return sorted(below, key=lambda index: -self.paths[index].depth)

    def on(self, questions: NDArray[np.int_]) -> StoredAnswers:
        """The same ways on some of the questions."""
        return replace(
            self,
            choices=self.choices[:, questions],
            gold=self.gold[questions],
            gaps=self.gaps[:, questions],
            divergences=self.divergences[:, questions],
        )

    def splits(self, count: int, share: float, seed: int) -> Iterator[tuple[StoredAnswers, StoredAnswers]]:
        """Random splits: a share of the questions to calibrate on, and the others to test on."""
        rng, questions = np.random.default_rng(seed), self.choices.shape[1]
        size = round(share * questions)
        if not 0 < size < questions:
            raise InputError(f"a share of {share:g} of {questions} questions leaves none to calibrate or to test on")
        for _ in range(count):
            order = rng.permutation(questions)
            yield self.on(order[:size]), self.on(order[size:])


def answers_line(name: str, gold: int, ways: Mapping[str, tuple[LayerPath, Difference]]) -> str:
    """A line of a file, of one question and some ways."""
    stored = {
        way: {"path": str(path), "scores": list(found.scores), "kl": found.divergence}
        for way, (path, found) in ways.items()
    }
    return json.dumps({"id": name, "gold": gold, "ways": stored}) + "\n"


def stored_ways(file: Path) -> dict[str, tuple[int, Ways]]:
    """Gold and the stored ways by question id, in the file's order; nothing if there is no file.

    A last line that was cut off is left out.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    known: dict[str, tuple[int, Ways]] = {}
    try:
        lines = file.read_text().splitlines() if file.exists() else []
        for line in lines:
            if line.endswith("}}}"):
                entry = json.loads(line)
                known.setdefault(entry["id"], (int(entry["gold"]), {}))[1].update(entry["ways"])
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _not_stored(file, error) from error
    return known


def load_answers(file: Path, only: Sequence[str] = ALL, questions: Collection[str] | None = None) -> StoredAnswers:
    """The answers of full depth and of the ways whose names begin with one of `only`.

    Questions on which one of these ways is missing are left out, and, if `questions` are given, all other ids.

    Raises:
        InputError: the file cannot be read, or its parts do not fit each other.
    """
    known = {
        question: stored for question, stored in stored_ways(file).items() if questions is None or question in questions
    }
    names = dict.fromkeys(name for _, ways in known.values() for name in ways)
    chosen = [FULL, *(name for name in names if name != FULL and name.startswith(tuple(only)))]
    rows = [(gold, [ways[name] for name in chosen]) for gold, ways in known.values() if ways.keys() >= set(chosen)]
    if len(chosen) == 1 or not rows:
        raise InputError(f"{file}: no question has answers of {FULL} and of another way; ways are {', '.join(names)}")
    try:
        paths = tuple(LayerPath.parse(way["path"]) for way in rows[0][1])
        if any([way["path"] for way in ways] != [str(path) for path in paths] for _, ways in rows):
            raise InputError(f"{file}: a way has different paths on different questions")
        scores = [[way["scores"] for way in ways] for _, ways in rows]
        divergences = np.array([[way["kl"] for way in ways] for _, ways in rows], dtype=float).T
        choices, gaps = (np.array([[of(row) for row in ways] for ways in scores]).T for of in (_choice, _gap))
    except (ValueError, KeyError, TypeError) as error:
        raise _not_stored(file, error) from error
    if len({len(path) for path in paths}) > 1 or paths[0] != LayerPath.full(len(paths[0])):
        raise InputError(f"{file}: {FULL} must be the full path, and all paths of one number of layers")
    return StoredAnswers(tuple(chosen), paths, choices, np.array([gold for gold, _ in rows]), gaps, divergences)


def _not_stored(file: Path, error: Exception) -> InputError:
    return InputError(f"{file} holds no stored answers ({type(error).__name__}: {error})")


def _choice(scores: Sequence[float]) -> int:
    return int(np.argmax(scores)) if _finite(scores) else NO_CHOICE


def _gap(scores: Sequence[float]) -> float:
    """The best score minus the second best."""
    *_, second, best = sorted([float("-inf"), *scores])
    return best - second if _finite(scores) else float("-inf")


def _finite(scores: Iterable[float]) -> bool:
    return all(map(math.isfinite, scores))
