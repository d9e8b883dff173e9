"""Which questions take part in looking for one path: those that propose, those that judge, and in which fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..paths.records import seeded_hash
from ..questions.question import Question
from ..store.run_reader import SearchedRun

SCAN_QUESTIONS = 100
"""On which every single edit is measured, to propose candidates by; no accuracy that is told is of these."""
SCAN_SHARE = 3
"""Of few questions one in so many is scanned."""
FEWEST_FOLDS = 3
"""With fewer there is nothing to cross-validate the choice of a depth by."""


class TooFewQuestions(InputError):
    """A folder has too few questions to judge paths by."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that takes part.

    Attributes:
        run: index of the run that it is of.
        question: the question.
    """

    run: int
    question: Question


def taking_part(
    searched: Sequence[tuple[str, str]], limit: int | None, seed: int, wanted: Callable[[str], bool]
) -> list[str]:
    """Ids of the wanted questions, at most `limit`, drawn by the seed from (id, sha) of those of one run."""
    hashed = sorted((seeded_hash(seed, sha), name) for name, sha in searched if wanted(name))
    return [name for _, name in hashed[:limit]]


def draw_questions(runs: Sequence[SearchedRun], seed: int) -> tuple[list[Asked], list[Asked]]:
    """Which questions propose paths and which judge them, both in an order drawn by the seed.

    Each folder's are spread evenly over the order, so that any beginning of it is a fair share of every folder.
    No question that proposes judges, under another id or in another folder either.
    """
    placed = []
    for index, run in enumerate(runs):
        hashed = sorted(((seeded_hash(seed, q.sha), q.id, q) for q in run.questions), key=lambda h: h[:2])
        for rank, (_, _, question) in enumerate(hashed):
            placed.append(((rank + 0.5) / len(hashed), Asked(index, question)))
    asked = [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]  # stable
    count = min(SCAN_QUESTIONS, len(asked) // SCAN_SHARE)
    scanned = asked[:count]
    proposing = {entry.question.sha for entry in scanned}
    judged = [entry for entry in asked[count:] if entry.question.sha not in proposing]
    return scanned, judged


def draw_folds(runs: Sequence[SearchedRun], judged: Sequence[Asked], most: int) -> np.ndarray:
    """[Q] in which fold each question is held out: in turn, so that each folder's questions spread evenly over them.

    Equal questions, under another id or in another folder, are of one fold.

    Args:
        runs: of which the questions are.
        judged: in the order drawn.
        most: folds at most; there are no more than different questions in the smallest folder.

    Raises:
        TooFewQuestions: a folder has questions in fewer than FEWEST_FOLDS.
    """
    different = [list(dict.fromkeys(e.question.sha for e in judged if e.run == index)) for index in range(len(runs))]
    count = max(FEWEST_FOLDS, min(most, *map(len, different)))
    fold_of: dict[str, int] = {}
    for run, shas in zip(runs, different, strict=True):
        held = Counter(fold_of[sha] for sha in shas if sha in fold_of)  # another folder's as well
        for sha in shas:
            if sha not in fold_of:
                fold_of[sha] = min(range(count), key=held.__getitem__)
                held[fold_of[sha]] += 1
        if len(held) < FEWEST_FOLDS:
            raise TooFewQuestions(
                f"{run.out}: too few searched questions ({len(shas)} are left to judge paths by, at least "
                f"{FEWEST_FOLDS} must be); let its `pathgen generate` search more, about fifty to rely on the figures"
            )
    return np.array([fold_of[entry.question.sha] for entry in judged])
