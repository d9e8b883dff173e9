"""Stand-ins for a model, and ways to look at a search, for the tests of the search."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerPath, Move, all_moves
from pathgen.paths.records import Evaluation
from pathgen.search.path_search import PathSearch, SearchSettings

Evaluate = Callable[[LayerPath], Evaluation]


def toy_model(seed: int, null_share: float = 0.1) -> Evaluate:
    """A model without rhyme or reason: each path has its own margin, and some have none."""

    def evaluate(path: LayerPath) -> Evaluation:
        rng = random.Random(f"{seed} {path}")
        margin = math.nan if rng.random() < null_share else rng.gauss(-0.5, 2)
        return Evaluation(path, correct=margin > 0, margin=margin)

    return evaluate


def scripted(margins: dict[str, float], otherwise: float) -> Evaluate:
    """A model with given margins, by `str(path)`."""

    def evaluate(path: LayerPath) -> Evaluation:
        margin = margins.get(str(path), otherwise)
        return Evaluation(path, correct=margin > 0, margin=margin)

    return evaluate


def layer_search(num_layers: int, seed: int = 0, **settings) -> PathSearch:
    """A search that counts layers."""
    return PathSearch(num_layers, SearchSettings(**settings), CostModel.layers(num_layers), np.random.default_rng(seed))


def tell_all(search: PathSearch, evaluate: Evaluate) -> list[LayerPath]:
    """Ask once and answer; returns what was asked."""
    asked = search.ask()
    for path in asked:
        assert search.tell(path, evaluate(path))
    return asked


def drive(search: PathSearch, evaluate: Evaluate, telling: random.Random | None = None) -> PathSearch:
    """Run a search to its end; with `telling`, results come in another order, with strays in between."""
    while asked := search.ask():
        told = list(asked)
        if telling:
            telling.shuffle(told)
        while told:
            path = told.pop(0)
            assert search.tell(path, evaluate(path))
            if telling and telling.random() < 0.5:
                assert not search.tell(path, evaluate(path))
                assert not told or search.ask() == []
    return search


def snapshot(search: PathSearch) -> dict:
    """All that a search holds, but the number of results ignored, as plain data."""
    return {
        "tree": {
            str(path): {
                "visits": node.visits,
                "reward_sum": node.reward_sum,
                "closed": node.closed,
                "edges": {str(edge.child): [edge.visits, edge.pending, edge.prior] for edge in node.edges},
            }
            for path, node in search.tree.nodes.items()
        },
        "evaluations": search.evaluations,
        "simulations": search.simulations,
        "layer_executions": search.layer_executions,
        "stop_reason": search.stop_reason,
    }


@dataclass(frozen=True)
class SearchMaker:
    """Makes one and the same fresh search at each call; keywords replace settings."""

    num_layers: int
    settings: dict[str, Any]
    cost: CostModel
    prior: dict[Move, float] | None
    influence: tuple[float, ...] | None
    relative_margin: bool
    seed: int

    def __call__(self, **changed) -> PathSearch:
        search = PathSearch(
            self.num_layers,
            SearchSettings(**(self.settings | changed)),
            self.cost,
            np.random.default_rng(self.seed),
            self.relative_margin,
        )
        if self.prior is not None:
            search.tree.use_prior(self.prior)
        search.influence = self.influence
        return search


def cost_models(num_layers: int) -> st.SearchStrategy[CostModel]:
    """Layers counted, or measures among which some layers may be free."""
    per_layer = st.lists(st.integers(0, 4), min_size=num_layers, max_size=num_layers).filter(any)
    return st.just(CostModel.layers(num_layers)) | per_layer.map(lambda m: CostModel.from_measures("flops", m))


@st.composite
def search_makers(draw, min_layers: int = 1, max_layers: int = 6) -> SearchMaker:
    """Small searches with any settings that are legal together."""
    num_layers = draw(st.integers(min_layers, max_layers))
    settings = {
        "simulations": draw(st.integers(0, 40)),
        "layer_budget": draw(st.none() | st.integers(num_layers, 15 * num_layers)),
        "max_depth": draw(st.none() | st.integers(num_layers, 2 * num_layers)),
        "max_edits": draw(st.integers(0, 6)),
        "parallel_leaves": draw(st.integers(1, 5)),
        "stop": draw(st.sampled_from(["budget", "budget", "published"])),
        "exploration": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "widening_k": draw(st.sampled_from([0.5, 1.0, 3.0])),
        "widening_alpha": draw(st.sampled_from([0.0, 0.5, 1.0])),
    }
    count, change = 2 * num_layers - 1, st.floats(0, 2, allow_nan=False, width=32)
    prior = st.dictionaries(st.sampled_from(all_moves(num_layers)), st.integers(0, 3))
    return SearchMaker(
        num_layers,
        settings,
        cost=draw(cost_models(num_layers)),
        prior=draw(st.none() | prior),
        influence=draw(st.none() | st.lists(change, min_size=count, max_size=count).map(tuple)),
        relative_margin=draw(st.booleans()),
        seed=draw(st.integers(0, 999)),
    )
