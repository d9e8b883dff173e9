"""What a layer may hand on: its states, and nothing else that changes what comes later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import tiny
from transformers.modeling_outputs import BaseModelOutputWithPast

from pathgen.engine.path_model import PathModel
from pathgen.engine.probe.alone import Alone
from pathgen.engine.supported import UnsupportedModelError
from pathgen.engine.wrapped.wrapped_model import WrappedModel
from pathgen.paths.layer_path import LayerPath

ROW, PATH = [5, 9, 11, 3], LayerPath([1, 1, 2, 1])


def replace_forward(module: Any, forward: Callable[..., Any]) -> None:
    """It becomes `forward(the module's own, *arguments)`."""
    stock = module.forward
    module.forward = lambda *args, **kwargs: forward(stock, *args, **kwargs)


def plain(model: Any) -> None:
    """As published."""


def changes_an_argument(model: Any) -> None:
    """A layer halves the rotary tables of the next ones."""

    def forward(stock: Any, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        for table in kwargs["position_embeddings"]:
            table.mul_(0.5)
        return stock(hidden, *args, **kwargs)

    replace_forward(model.model.layers[1], forward)


def head_reads_the_first_states(model: Any) -> None:
    """They are kept beside the states that layers hand on."""
    kept: list[Any] = []

    def keep(stock: Any, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        kept.append(hidden.std())
        return stock(hidden, *args, **kwargs)

    replace_forward(model.model.layers[0], keep)
    replace_forward(model.lm_head, lambda stock, states: stock(states) * (1 + kept[-1]))


def returns_more(weight: float) -> Callable[[Any], None]:
    """Layers return (states, more), and the loop over them adds `weight` of `more`, if there is any."""

    def change(model: Any) -> None:
        def body(stock: Any, input_ids: Any, **kwargs: Any) -> Any:
            hidden = model.model.embed_tokens(input_ids)
            tables = model.model.rotary_emb(hidden, torch.arange(input_ids.shape[1])[None])
            for layer in model.model.layers:
                states, more = layer(hidden, position_embeddings=tables, attention_mask=None)
                hidden = states if more is None else states + weight * more
            return BaseModelOutputWithPast(last_hidden_state=model.model.norm(hidden))

        for layer in model.model.layers:
            replace_forward(layer, lambda stock, hidden, **kwargs: (stock(hidden, **kwargs), hidden))
        replace_forward(model.model, body)

    return change


@pytest.mark.parametrize("change", [plain, returns_more(0)])
def test_states_of_the_loop(change: Callable[[Any], None]) -> None:
    model = tiny("llama")
    want = Alone(WrappedModel(tiny("llama"))).run(ROW, PATH)
    change(model)
    torch.testing.assert_close(Alone(WrappedModel(model)).checked(ROW, PATH), want)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changes_an_argument, "hand more than their states"),
        (returns_more(0.5), "hand more than their states"),
        (head_reads_the_first_states, "head reads more than the last layer's states"),
    ],
)
def test_what_goes_past_the_states_is_refused(change: Callable[[Any], None], reason: str) -> None:
    model = tiny("llama")
    change(model)
    with pytest.raises(UnsupportedModelError, match=reason):
        Alone(WrappedModel(model)).checked(ROW, PATH)


@pytest.mark.parametrize(("family", "forwards"), [("llama", 5), ("lfm2", 7)])
def test_a_wrap_takes_few_forwards(family: str, forwards: int) -> None:
    model, calls = tiny(family), []
    replace_forward(model.model.layers[-1], lambda stock, *args, **kwargs: calls.append(1) or stock(*args, **kwargs))
    PathModel(model)
    assert len(calls) == forwards
