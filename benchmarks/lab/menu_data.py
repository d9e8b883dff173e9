"""A menu of static paths on many questions, and what the model's states say of their prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.lab.digits import from_digits
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decided_paths import prompt_batches
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task, find_task
from pathgen.static.run import open_book
from pathgen.store.run_reader import SearchedRun
from router.net.pooling import Pooling


@dataclass(frozen=True, slots=True, eq=False)
class Menu:
    """Paths, the full one first, on questions.

    Attributes:
        paths: P of them.
        questions: Q of them.
        folder: [Q] index of the run each question is from.
        correct: [Q, P].
        margin: [Q, P] nats.
    """

    paths: list[LayerPath]
    questions: list[Question]
    folder: NDArray[np.int_]
    correct: NDArray[np.bool_]
    margin: NDArray[np.float64]


def load_menu(menu: Sequence[str], folders: Sequence[str], model: str) -> Menu:
    """Paths, one digit a layer, on all questions of the folders; what has not been run yet is run and kept there."""
    path_model = cache(lambda: PathModel.from_pretrained(model))
    given = [from_digits(digits) for digits in menu]
    paths = list(dict.fromkeys([LayerPath.full(len(given[0])), *given]))
    questions: list[Question] = []
    owners: list[int] = []
    scores = []
    for index, folder in enumerate(folders):
        run = SearchedRun.load(folder)
        asked = sorted(run.questions, key=lambda question: question.sha)
        book = open_book(run, run.dtype, lambda: Evaluator(path_model(), find_task("arc")))
        scores.append(book.scores(asked, paths))
        questions += asked
        owners += [index] * len(asked)
    margin = np.concatenate([part.margin for part in scores])
    correct = np.concatenate([part.correct for part in scores])
    return Menu(paths, questions, np.array(owners), correct, margin.astype(float))


def prompt_states(model: str, questions: Sequence[Question], task: Task) -> dict[str, NDArray[np.float64]]:
    """[Q, D] features of each prompt by name: the mean over it and its last token at `read_layers`, full depth."""
    path_model = PathModel.from_pretrained(model)
    assert path_model.tokenizer is not None
    layers = read_layers(path_model.num_layers)
    prompts = [task.encode(question, path_model.tokenizer, chat=False)[0] for question in questions]
    kinds = {"mean": Pooling(windows=1), "last": Pooling("last", 1)}
    found: dict[str, list[Tensor]] = {}
    order: list[int] = []
    for indices, ids, mask in prompt_batches(path_model, prompts):
        order += indices
        states = _States(layers)
        path_model.states(ids, mask, policy=states)
        for layer in layers:
            for kind, pooling in kinds.items():
                pooled = pooling.pool(states.hidden[layer], mask).flatten(1)
                found.setdefault(f"{kind} at layer {layer}", []).append(pooled)
    back = np.argsort(order)
    return {name: torch.cat(parts).double().numpy()[back] for name, parts in found.items()}


def read_layers(num_layers: int) -> tuple[int, int, int, int]:
    """The first layer, a third and two thirds of the way, and the last."""
    return 0, num_layers // 3, 2 * num_layers // 3, num_layers - 1


class _States:
    """Executes every layer and keeps the states that reach some."""

    def __init__(self, layers: Collection[int]):
        self._layers = layers
        self.hidden: dict[int, Tensor] = {}

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        if layer in self._layers:
            self.hidden[layer] = hidden
        return torch.ones(len(hidden), dtype=torch.int64)
