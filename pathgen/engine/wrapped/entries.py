"""Where the forwards of a restricted model begin, and what each is checked for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ...hooks.forwards import HookedForward
from ...hooks.here import Here
from ..cache import RoutedCache
from .wrapped_model import WrappedModel


class ForwardEntries:
    """The model, and its part without a head: in a mode, what the outer one is given is checked and changed.

    Attributes:
        hooks: what stands as their forwards.
    """

    def __init__(self, model: WrappedModel):
        whole, body = model.hf_model, model.hf_model.base_model
        wholes = [whole] if body is whole else [whole, body]
        self._model = model
        self._waiting = Here[list[RoutedCache]]()
        self._inside = Here[bool]()
        self.hooks = [HookedForward(part, partial(self._run, place)) for place, part in enumerate(wholes)]

    def first_cache(self, cache: RoutedCache) -> AbstractContextManager[None]:
        """Within the block, the first forward of a model with restrictions gets this cache, whatever else is given."""
        return self._waiting.be([cache])

    def _run(self, place: int, *args: Any, **kwargs: Any) -> Any:
        model, stock = self._model, self.hooks[place].stock
        if not model.in_mode or self._inside.get() or not (model.restrictions.checked or model.pinned_layers):
            return stock(*args, **kwargs)
        given = model.restrictions.inputs(kwargs)
        waiting = self._waiting.get() if model.restrictions.checked else None
        if waiting:  # a family may drop an empty cache, to make one of its own
            given = {**given, "past_key_values": waiting.pop()}
        if model.pinned_layers and "logits_to_keep" in given:  # else the last layers see the last tokens alone
            given = {**given, "logits_to_keep": 0}
        with self._inside.be(True):
            return stock(*args, **given)
