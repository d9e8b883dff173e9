"""Labels: the actions that a router should choose on each question, from its search.

The policies `shortest` (Dr.LLM's), `margin` and `consensus` imitate right paths; `value` needs none.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pathgen.errors import InputError
from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerAction, LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.paths.reward import path_reward
from pathgen.questions.question import Question

from ..data.path_datasets import PathDatasets
from ..net.config import allowed_actions
from .action_values import Floats, MeanEffects, action_values, question_effects

LENGTH_WEIGHT = 0.25
"""λ of `consensus`, as in the search: the cost of a path as deep as the full one, in units of quality."""
CONSENSUS_TEMPERATURE = 0.1
"""τ of `consensus`, in units of reward."""
VALUE_TEMPERATURE_NATS = 0.5
"""τ of `value`: an edit that adds so much margin is e times as likely as EXECUTE."""

Choice = tuple[LayerPath, Floats]
"""The path along which features are computed, and targets [L, 3]."""
Imitation = Callable[[PathRecord, Sequence[Evaluation]], Choice]
"""From a record and its right evaluations of allowed actions, at least one."""
Records = Iterator[tuple[str, PathRecord]]
"""Each with its folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """The actions that a router should choose on one question.

    Attributes:
        path: the model runs along it when features are computed (teacher forcing).
        targets: [L, 3] float32 probabilities of SKIP, EXECUTE and REPEAT; rows sum to 1.
    """

    question: Question
    task: str
    out: str
    path: LayerPath
    targets: NDArray[np.float32]
    weight: float = 1.0


def shortest(record: PathRecord, right: Sequence[Evaluation]) -> Choice:
    """The right path of fewest layer executions, Dr.LLM's label (arXiv 2510.12773).

    Ties: the fewest different layers, then the largest margin, then lexicographic order.
    """
    path = min(right, key=_by_length).path
    return path, one_hot(path)


def margin(record: PathRecord, right: Sequence[Evaluation]) -> Choice:
    """The right path of the largest margin; ties as in `shortest`."""
    path = min(right, key=lambda evaluation: (-_margin(evaluation), _by_length(evaluation))).path
    return path, one_hot(path)


def consensus(record: PathRecord, right: Sequence[Evaluation]) -> Choice:
    """A mean of all right paths; good and shallow ones have larger weights.

    A path's weight is exp(r/τ), normalised over the right ones, with the search's reward r = quality − λ·depth/L
    (`pathgen.paths.reward`). A layer's targets are the weighted frequencies of its actions. Features are computed
    along the right path of the highest sum of its actions' targets; ties as in `shortest`.
    """
    # Margins of choices are relative already; margins of generated answers are compared with the full path's.
    base = record.base_margin if record.question.choices is None else 0.0
    assert base is not None
    cost = CostModel.layers(record.num_layers)
    rewards = np.array([path_reward(evaluation, base, cost, LENGTH_WEIGHT) for evaluation in right])
    weights = _softmax(rewards / CONSENSUS_TEMPERATURE)
    choices = np.stack([one_hot(evaluation.path) for evaluation in right])  # [N, L, 3]
    targets = np.einsum("n,nla->la", weights, choices)
    agreements = np.einsum("nla,la->n", choices, targets).round(9)  # equal sums in another order are a tie
    best = min(range(len(right)), key=lambda i: (-agreements[i], _by_length(right[i])))
    return right[best].path, targets


IMITATION: dict[str, Imitation] = {"shortest": shortest, "margin": margin, "consensus": consensus}
"""The policies that imitate right paths."""
LABEL_POLICIES = (*IMITATION, "value")
WITHOUT_MARGINS = "shortest"
"""The policy that needs no margins; other programs' files have none."""


def make_labels(
    datasets: PathDatasets,
    policy: str,
    *,
    unsolved: Literal["full", "drop"] = "drop",
    actions: Sequence[str] = ("skip", "execute", "repeat"),
    wanted: Callable[[str], bool] = lambda question_id: True,
    part: Callable[[str], bool] = lambda question_id: False,
) -> Iterator[Label]:
    """The labels of questions, as a stream in the datasets' order, from one pass over the records (`value`: two).

    Args:
        datasets: of the records.
        policy: one of LABEL_POLICIES.
        unsolved: a question without a right path of allowed actions gets no label, or the full path. `value` labels
            every question.
        actions: names of the actions that the router may choose; a path with any other action is not imitated.
        wanted: from its id, whether a question is used at all.
        part: from its id, which of two parts a question is in, for example held out or not. `value` has one mean over
            questions per part, so held-out ones stay unseen.

    Raises:
        InputError: the policy is unknown; a record lacks the margins that the policy needs; or, at the end of the
            stream, a policy that imitates has found no label in all or in one of the parts.
        ValueError: an action is unknown, or execute is missing.
        ArtefactError: from the datasets.
    """
    if policy not in LABEL_POLICIES:
        raise InputError(f"unknown label policy {policy!r}; policies are {', '.join(LABEL_POLICIES)}")
    allowed = allowed_actions(tuple(actions))

    def records() -> Records:
        for out, record in datasets.records():
            if wanted(record.question.id):
                if record.base_margin is None and policy != WITHOUT_MARGINS:
                    raise InputError(
                        f"{out}: question {record.question.id} has no margin of the full path (imported records have "
                        f"none), and --labels {policy} needs margins; use --labels {WITHOUT_MARGINS}"
                    )
                yield out, record

    if policy == "value":
        return _value_labels(records, datasets.num_layers, allowed, part)

    def imitated() -> Iterator[Label]:
        parts, labelled = set(), set()
        full = LayerPath.full(datasets.num_layers)
        for out, record in records():
            parts.add(part(record.question.id))
            right = [e for e in record.evaluations if e.correct and set(e.path) <= set(allowed)]
            if right or unsolved == "full":
                labelled.add(part(record.question.id))
                chosen = IMITATION[policy](record, right) if right else (full, one_hot(full))
                yield _label(out, record, *chosen)
        if not labelled or parts - labelled:
            names = ", ".join(action.name.lower() for action in allowed)
            raise InputError(
                f"no labels in {', '.join(datasets.settings)}: no wanted question has a right path of only {names}; "
                "search more questions, allow more actions, or use --labels value"
            )

    return imitated()


def one_hot(path: LayerPath) -> Floats:
    """[L, 3] targets of the path's actions."""
    return np.eye(len(LayerAction))[list(path)]


def _value_labels(
    records: Callable[[], Records], num_layers: int, allowed: Sequence[LayerAction], part: Callable[[str], bool]
) -> Iterator[Label]:
    """Targets exp(value/τ), normalised over the allowed actions of a layer.

    Features are computed along the full path, because values are effects of edits to it.
    """
    pooled: defaultdict[tuple[str, bool], MeanEffects] = defaultdict(lambda: MeanEffects(num_layers))
    for _, record in records():
        pooled[record.task, part(record.question.id)].add(record)
    means = {key: effects.solve() for key, effects in pooled.items()}
    forbidden = np.array([0.0 if action in allowed else -np.inf for action in LayerAction])
    full = LayerPath.full(num_layers)
    for out, record in records():
        values = action_values(question_effects(record, means[record.task, part(record.question.id)]))
        yield _label(out, record, full, _softmax(values / VALUE_TEMPERATURE_NATS + forbidden))


def _label(out: str, record: PathRecord, path: LayerPath, targets: Floats) -> Label:
    return Label(record.question, record.task, out, path, targets.astype(np.float32))


def _margin(evaluation: Evaluation) -> float:
    return -math.inf if evaluation.margin is None else evaluation.margin


def _by_length(evaluation: Evaluation) -> tuple[int, int, float, LayerPath]:
    path = evaluation.path
    return path.depth, len(path) - path.count(LayerAction.SKIP), -_margin(evaluation), path


def _softmax(scores: Floats) -> Floats:
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)
