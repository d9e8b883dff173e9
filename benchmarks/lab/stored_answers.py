"""Answers of many paths on the same questions, as a file keeps them, and splits of the questions in two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath


@dataclass(frozen=True, eq=False)
class StoredAnswers:
    """P paths on Q questions; the first path is the full one.

    Attributes:
        choices: [P, Q] index of the choice taken.
        correct: [P, Q].
        gaps: [P, Q] score of the best choice minus that of the second best, in nats; None without scores.
    """

    paths: tuple[LayerPath, ...]
    choices: NDArray[np.int_]
    correct: NDArray[np.bool_]
    gaps: NDArray[np.float64] | None

    @property
    def num_layers(self) -> int:
        """Of the model."""
        return len(self.paths[0])

    @property
    def differs(self) -> NDArray[np.bool_]:
        """[P, Q] whether the answer is not that of full depth."""
        return self.choices != self.choices[0]

    @property
    def shallower(self) -> list[int]:
        """Indices of the paths below full depth, the deepest first; equal depths in the file's order."""
        below = [index for index, path in enumerate(self.paths) if path.depth < self.num_layers]
        return sorted(below, key=lambda index: -self.paths[index].depth)

    def on(self, questions: NDArray[np.int_]) -> StoredAnswers:
        """The same paths on some of the questions."""
        gaps = None if self.gaps is None else self.gaps[:, questions]
        return StoredAnswers(self.paths, self.choices[:, questions], self.correct[:, questions], gaps)

    def splits(self, count: int, share: float, seed: int) -> Iterator[tuple[StoredAnswers, StoredAnswers]]:
        """Random splits: a share of the questions to calibrate on, and the others to test on."""
        rng, questions = np.random.default_rng(seed), self.choices.shape[1]
        size = round(share * questions)
        if not 0 < size < questions:
            raise InputError(f"a share of {share:g} of {questions} questions leaves none to calibrate or to test on")
        for _ in range(count):
            order = rng.permutation(questions)
            yield self.on(order[:size]), self.on(order[size:])


def load_answers(file: Path) -> StoredAnswers:
    """Read {"questions": [id], "gold": [int], "paths": [{"path", "choices": [int], "scores"?: [[float]]}]}.

    Raises:
        InputError: the file cannot be read, or its parts do not fit each other.
    """
    try:
        stored: dict[str, Any] = json.loads(file.read_text())
        count, entries = len(stored["questions"]), stored["paths"]
        gold = np.array(stored["gold"], dtype=int)
        paths = tuple(LayerPath.parse(entry["path"]) for entry in entries)
        choices = np.array([entry["choices"] for entry in entries], dtype=int)
        scored = all("scores" in entry for entry in entries)
        gaps = np.array([[_gap(row) for row in entry["scores"]] for entry in entries]) if scored else None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{file} holds no stored answers ({type(error).__name__}: {error})") from error
    shape = (len(paths), count)
    if not count or gold.shape != (count,) or choices.shape != shape or (gaps is not None and gaps.shape != shape):
        raise InputError(f"{file}: gold and every path need one entry for each of the {count} questions")
    if len({len(path) for path in paths}) > 1 or paths[0] != LayerPath.full(len(paths[0])):
        raise InputError(f"{file}: the first path must be the full one, and all of one number of layers")
    return StoredAnswers(paths, choices, choices == gold, gaps)


def _gap(scores: list[float]) -> float:
    """The best score minus the second best."""
    *_, second, best = sorted([float("-inf"), *scores])
    return best - second
