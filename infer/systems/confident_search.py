"""Search at test time (in the way of CoLa, arXiv 2507.07996): each question's own tree, rewarded by confidence alone.

Gold plays no part: what a path is worth is the probability that the model gives to its own first choice.
"""

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
"""Small: every path costs a forward of the question."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search decided on one question.

    Attributes:
        evaluation: of the path it ends with, graded.
        tried: every path that was run to find it, the full one first.
    """

    evaluation: Evaluation
    tried: tuple[LayerPath, ...]


def confidence(evaluation: Evaluation) -> float | None:
    """Probability of the likeliest choice among the choices; None where the model gave no scores."""
    if not evaluation.choice_scores:
        return None
    scores = np.array(evaluation.choice_scores)
    return float(1 / np.exp(scores - scores.max()).sum())


class ConfidentSearch(PathSearch):
    """A search that is told confidence in the place of what gold says."""

    def __init__(self, num_layers: int, rng: np.random.Generator):
        super().__init__(num_layers, SETTINGS, CostModel.layers(num_layers), rng)
        self._graded: dict[LayerPath, Evaluation] = {}

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Keep the graded evaluation apart, and take one whose quality is the confidence."""
        self._graded[path] = evaluation
        sure = confidence(evaluation)
        # Quality is ½·correct + ½·σ(margin): with this margin σ is the confidence, and `correct` is alike for all.
        odds = None if sure is None else math.log(sure) - math.log(max(1 - sure, 1e-12))
        return super().tell(path, replace(evaluation, correct=True, margin=odds))

    def found(self) -> Found:
        """The path of highest reward; of equal ones the first tried."""
        best = max(self.evaluations, key=self.reward)
        return Found(self._graded[best.path], tuple(evaluation.path for evaluation in self.evaluations))


def search_questions(evaluator: Evaluator, questions: Sequence[Question], seed: int) -> list[Found]:
    """Search each question on its own, all of them together in the model's batches.

    Args:
        evaluator: the model on a task of choices.
        questions: that fit its context.
        seed: of the run; a question's tree depends on it and on the question's id alone.
    """
    num_layers = evaluator.model.num_layers
    searches = [
        ConfidentSearch(num_layers, np.random.default_rng(seeded_hash(seed, question.id))) for question in questions
    ]
    together = Interleaver(evaluator)
    together.running = [
        QuestionSearch(evaluator.prepare(question), search)
        for question, search in zip(questions, searches, strict=True)
    ]
    while together.running:
        together.step()
    return [search.found() for search in searches]
