"""How far paths diverge from full depth on questions: no labels are needed, and every scored position counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ..engine.logprobs import HEAD_ROWS, divergence
from ..engine.path_model import PathModel
from ..engine.token_rows import scored_positions
from ..paths.layer_path import LayerPath
from ..questions.tasks import choice_margin
from .answer_book import PAIRS_TOGETHER
from .batching import Extent, like_lengths
from .evaluator import Evaluator, Prepared, QuestionError


@dataclass(frozen=True, slots=True)
class Difference:
    """A path against full depth on one question.

    Attributes:
        divergence: mean over the scored positions of KL(full ‖ path), in nats; inf if the path gives no finite scores.
        agreement: 1 if both choose the same choice, else 0; for generated answers, the share of the reference's
            positions where both have the same most probable token.
        correct: whether the path chooses gold; None without gold.
        scores: the path's log-probability of each choice, or of the reference of a generated answer, in nats.
    """

    divergence: float
    agreement: float
    correct: bool | None
    scores: tuple[float, ...]


class DivergenceMeter:
    """Compares paths with full depth on questions of one task. Each (question, path) runs once."""

    def __init__(self, evaluator: Evaluator):
        self.evaluator = evaluator
        self._found: dict[tuple[str, LayerPath], Difference] = {}
        self._full_states: dict[str, Tensor] = {}

    def measure(self, questions: Sequence[Prepared], paths: Sequence[LayerPath]) -> list[list[Difference]]:
        """[Q][P] differences; those not yet known run first, the full path with them.

        Raises:
            QuestionError: full depth gives no finite scores on a question.
        """
        missing = {
            prepared.question.sha: (prepared, new)
            for prepared in questions
            if (new := [path for path in dict.fromkeys(paths) if (prepared.question.sha, path) not in self._found])
        }
        for batch in self._batches(list(missing.values())):
            self._run(batch)
        return [[self._found[prepared.question.sha, path] for path in paths] for prepared in questions]

    def forget(self, questions: Sequence[Prepared]) -> None:
        """Free the states of these questions; their differences stay known."""
        for prepared in questions:
            self._full_states.pop(prepared.question.sha, None)
            self.evaluator.forget(prepared)

    def _batches(
        self, missing: Sequence[tuple[Prepared, list[LayerPath]]]
    ) -> Iterator[list[tuple[Prepared, list[LayerPath]]]]:
        """Questions of similar length; all missing paths of one run together, because they share their first layers."""
        limit = PAIRS_TOGETHER.get(self.evaluator.model.device.type, PAIRS_TOGETHER["cuda"])
        sizes, restrictions = [len(paths) for _, paths in missing], self.evaluator.model.restrictions
        order = sorted(range(len(missing)), key=lambda index: -missing[index][0].tokens)
        extents = [
            Extent(prepared.tokens, size, prepared.tokens * size, restrictions.kind(prepared.tokens))
            for (prepared, _), size in zip(missing, sizes, strict=True)
        ]

        def is_full(batch: list[int], index: int) -> bool:
            return sum(sizes[one] for one in (*batch, index)) > limit

        for batch in like_lengths(extents, order, is_full):
            yield [missing[index] for index in batch]

    def _run(self, batch: Sequence[tuple[Prepared, list[LayerPath]]]) -> None:
        full = LayerPath.full(self.evaluator.model.num_layers)
        asked = []
        for prepared, paths in batch:
            wanted = paths if prepared.question.sha in self._full_states else [full, *paths]
            asked += [(prepared, path) for path in dict.fromkeys(wanted)]
        pairs = [(row, path) for prepared, path in asked for row in prepared.rows]
        states = iter(self.evaluator.executor.scored_states(pairs))
        held: dict[tuple[str, LayerPath], Tensor] = {}
        for prepared, path in asked:
            held[prepared.question.sha, path] = torch.cat([next(states) for _ in prepared.rows])
        for prepared, paths in batch:
            sha = prepared.question.sha
            if sha not in self._full_states:
                self._full_states[sha] = held[sha, full].clone()  # not a view of the batch
            others = torch.stack([self._full_states[sha] if path == full else held[sha, path] for path in paths])
            found = _differences(self.evaluator.model, prepared, self._full_states[sha], others)
            self._found.update(((sha, path), one) for path, one in zip(paths, found, strict=True))


@torch.inference_mode()
def _differences(model: PathModel, prepared: Prepared, full: Tensor, others: Tensor) -> list[Difference]:
    """The differences of P paths, from states [S, H] and [P, S, H] at the scored positions of all rows."""
    rows, scored, predicts, targets = scored_positions(prepared.rows)
    prompts = np.array([row.prompt_tokens for row in prepared.rows])
    counted = (rows == 0) | (scored >= prompts[rows])  # rows of one question all score the prompt's last token
    kl, logprobs, best = _compare(model, full, others, predicts, targets)
    if not np.isfinite(logprobs[0]).all():
        raise QuestionError(f"question {prepared.question.id}: full depth gives no finite scores")
    owners = np.concatenate([row.owners for row in prepared.rows])
    scores = [np.bincount(owners, weights=values) for values in logprobs]
    found = []
    for place, mean in enumerate(kl[1:, counted].mean(axis=1), start=1):
        finite = bool(np.isfinite(mean) and np.isfinite(scores[place]).all())
        if (choices := prepared.question.choices) is None:
            same = (best[place] == best[0])[counted].mean()
        else:  # by text: equal choices score alike
            same = choices[scores[place].argmax()] == choices[scores[0].argmax()]
        found.append(
            Difference(
                divergence=float(mean) if finite else float("inf"),
                agreement=float(same) if finite else 0.0,
                correct=_is_right(prepared, scores[place], finite=finite),
                scores=tuple(scores[place].tolist()),
            )
        )
    return found


def _is_right(prepared: Prepared, scores: np.ndarray, *, finite: bool) -> bool | None:
    question = prepared.question
    if question.choices is None or question.gold is None:
        return None
    return finite and choice_margin(scores.tolist(), question.choices, question.gold) > 0


def _compare(
    model: PathModel, full: Tensor, others: Tensor, predicts: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full depth, then P paths: [1 + P, S] KL(full ‖ path) in nats, [1 + P, K] log-probabilities of the targets, and
    [1 + P, S] the most probable token.
    """
    count, length = 1 + len(others), len(full)
    kl, logprobs = np.empty((count, length)), np.empty((count, len(targets)))
    best = np.empty((count, length), dtype=np.int64)
    for start in range(0, length, HEAD_ROWS):
        block = slice(start, min(start + HEAD_ROWS, length))
        base = model.head(full[block]).log_softmax(-1)
        here = np.flatnonzero((block.start <= predicts) & (predicts < block.stop))
        places, tokens = (torch.from_numpy(a[here]).to(base.device) for a in (predicts - start, targets))
        first = 0
        for found in chain([base[None]], _distributions(model, others[:, block])):
            rows = slice(first, first + len(found))
            kl[rows, block] = divergence(base, found).clamp(min=0).cpu().numpy()
            logprobs[rows, here] = found[:, places, tokens].cpu().numpy()
            best[rows, block] = found.argmax(-1).cpu().numpy()
            first += len(found)
    return kl, logprobs, best


def _distributions(model: PathModel, states: Tensor) -> Iterator[Tensor]:
    """[p, b, V] float32 log-probabilities of [P, b, H] states, for at most HEAD_ROWS states at a time."""
    width = states.shape[1]
    for group in states.split(max(1, HEAD_ROWS // width)):
        yield model.head(group.flatten(0, 1)).view(len(group), width, -1).log_softmax(-1)
