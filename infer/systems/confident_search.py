"""Search at test time without gold (as CoLa, arXiv 2507.07996): the model's confidence in its choice is the reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.interleave import Interleaver
from pathgen.generate.question_search import QuestionSearch
from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, seeded_hash
from pathgen.questions.question import Question
from pathgen.search.path_search import PathSearch
from pathgen.search.settings import SearchSettings

SETTINGS = SearchSettings(simulations=8)
"""A small budget, because every path costs a forward of the question."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search: the chosen path's evaluation, and every path that ran, the full one first."""

    evaluation: Evaluation
    tried: tuple[LayerPath, ...]


def confidence(evaluation: Evaluation) -> float | None:
    """Probability of the likeliest choice among the choices; None without scores."""
    if not evaluation.choice_scores:
        return None
    scores = np.array(evaluation.choice_scores)
    return float(1 / np.exp(scores - scores.max()).sum())


class ConfidentSearch(PathSearch):
    """A search that maximises confidence instead of agreement with gold."""

    def __init__(self, num_layers: int, rng: np.random.Generator):
        super().__init__(num_layers, SETTINGS, CostModel.layers(num_layers), rng)
        self._graded: dict[LayerPath, Evaluation] = {}

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Store the graded evaluation; the search itself gets one whose quality is the confidence."""
        self._graded[path] = evaluation
        sure = confidence(evaluation)
        # Quality is ½·correct + ½·σ(margin): with this margin, σ is the confidence; `correct` is the same for all.
        odds = None if sure is None else math.log(sure) - math.log(max(1 - sure, 1e-12))
        return super().tell(path, replace(evaluation, correct=True, margin=odds))

    def found(self) -> Found:
        """The path of highest reward; the first tried if several are equal."""
        best = max(self.evaluations, key=self.reward)
        return Found(self._graded[best.path], tuple(evaluation.path for evaluation in self.evaluations))


def search_questions(evaluator: Evaluator, questions: Sequence[Question], seed: int) -> list[Found]:
    """Search each question in its own tree; the searches share batches.

    The task has choices, and the questions fit the context. A tree depends only on the seed and the question's id.
    """
    num_layers = evaluator.model.num_layers
    searches = [
        ConfidentSearch(num_layers, np.random.default_rng(seeded_hash(seed, question.id))) for question in questions
    ]
    interleaver = Interleaver(evaluator)
    interleaver.running = [
        QuestionSearch(evaluator.prepare(question), search)
        for question, search in zip(questions, searches, strict=True)
    ]
    while interleaver.running:
        interleaver.step()
    return [search.found() for search in searches]
