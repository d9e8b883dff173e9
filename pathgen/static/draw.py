"""Draws the questions that propose paths, those that judge them, and the folds."""

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
"""At most so many questions measure every single edit, to propose candidates. No reported accuracy includes them."""
SCAN_SHARE = 3
"""With few questions, one in so many is scanned."""
FEWEST_FOLDS = 3
"""The nested cross-validation of the depth needs three."""


class TooFewQuestions(InputError):
    """A folder has too few questions to judge paths by."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the index of its run."""

    run: int
    question: Question


def taking_part(
    searched: Sequence[tuple[str, str]], limit: int | None, seed: int, wanted: Callable[[str], bool]
) -> list[str]:
    """Ids of at most `limit` wanted questions of one run, drawn by the seed from their (id, sha)."""
    hashed = sorted((seeded_hash(seed, sha), name) for name, sha in searched if wanted(name))
    return [name for _, name in hashed[:limit]]


def draw_questions(runs: Sequence[SearchedRun], seed: int) -> tuple[list[Asked], list[Asked]]:
    """The questions that propose paths, and those that judge them, both in an order drawn by the seed.

    Each folder's questions are spread evenly over the order, so that every prefix holds a fair share of each folder.
    No question does both, not even under another id or in another folder.
    """
    placed = []
    for index, run in enumerate(runs):
        drawn = sorted(run.questions, key=lambda question: (seeded_hash(seed, question.sha), question.id))
        placed += [((rank + 0.5) / len(drawn), Asked(index, question)) for rank, question in enumerate(drawn)]
    asked = [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]  # stable
    count = min(SCAN_QUESTIONS, len(asked) // SCAN_SHARE)
    scanned = asked[:count]
    proposing = {entry.question.sha for entry in scanned}
    judged = [entry for entry in asked[count:] if entry.question.sha not in proposing]
    return scanned, judged


def draw_halves(sources: Sequence[Sequence[Question]], seed: int, most: int) -> tuple[list[Asked], list[Asked]]:
    """The questions that a search uses, and those held out, both in an order drawn by the seed.

    At most `most` questions of each source take part, half of them on each side. A question that stands in several
    sources, or twice in one, takes part once. Index `run` is the source's.
    """
    seen: set[str] = set()
    halves: tuple[list[tuple[float, Asked]], ...] = ([], [])
    for index, questions in enumerate(sources):
        new = {question.sha: question for question in questions if question.sha not in seen}
        seen.update(new)
        drawn = sorted(new, key=lambda sha: seeded_hash(seed, sha))[:most]
        for rank, sha in enumerate(drawn):
            halves[rank % 2].append(((rank + 0.5) / len(drawn), Asked(index, new[sha])))
    searched, held_out = ([asked for _, asked in sorted(half, key=lambda pair: pair[0])] for half in halves)
    return searched, held_out


def draw_folds(runs: Sequence[SearchedRun], judged: Sequence[Asked], most: int) -> np.ndarray:
    """[Q] the fold in which each question is held out. Each folder's questions are spread evenly over the folds.

    Equal questions share a fold, also under another id or in another folder. The number of folds is at most `most`,
    and at most the number of different questions in the smallest folder.

    Raises:
        TooFewQuestions: a folder has questions in fewer than FEWEST_FOLDS.
    """
    different = [list(dict.fromkeys(e.question.sha for e in judged if e.run == index)) for index in range(len(runs))]
    count = max(FEWEST_FOLDS, min(most, *map(len, different)))
    fold_of: dict[str, int] = {}
    for run, shas in zip(runs, different, strict=True):
        held = Counter(fold_of[sha] for sha in shas if sha in fold_of)  # by an earlier folder
        for sha in shas:
            if sha not in fold_of:
                fold_of[sha] = min(range(count), key=held.__getitem__)
                held[fold_of[sha]] += 1
        if len(held) < FEWEST_FOLDS:
            raise TooFewQuestions(
                f"{run.out}: too few searched questions ({len(shas)} are left to judge paths by, at least "
                f"{FEWEST_FOLDS} are needed); search more with `pathgen generate`, about fifty for reliable figures"
            )
    return np.array([fold_of[entry.question.sha] for entry in judged])
