"""A module's forward replaced on its instance: it copies with the module, is never pickled, and can be restored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from inspect import signature
from types import MethodType
from typing import Any

from torch import nn


class HookedForward:
    """Stands as `forward` on a module's instance, and calls `run` instead of the module's own.

    A deep copy of the module gets its own forward: the copy is not hooked.

    Attributes:
        stock: what the module's forward was before.
    """

    def __init__(self, module: nn.Module, run: Callable[..., Any]):
        self.module = module
        self.stock = module.forward
        self._run = run
        self.__signature__ = signature(module.forward)  # transformers asks which arguments a model takes
        self._own = vars(module).get("forward")  # a hook set before us, or None
        module.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `run` gives."""
        return self._run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._own is not None:
            return copy.deepcopy(self._own, memo)
        return MethodType(type(self.module).forward, copy.deepcopy(self.module, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a wrapped model cannot be pickled: call unwrap() on its PathModel first, or save_pretrained")

    @property
    def is_outermost(self) -> bool:
        """Whether nothing has replaced the forward since."""
        return vars(self.module).get("forward") is self

    def restore(self) -> None:
        """Give the module its forward of before."""
        if self._own is None:
            del self.module.forward
        else:
            self.module.forward = self._own


def shared_module(modules: Sequence[nn.Module]) -> tuple[int, int] | None:
    """The first two places that hold one module; None if all differ."""
    first: dict[int, int] = {}
    for place, module in enumerate(modules):
        if (earlier := first.setdefault(id(module), place)) != place:
            return earlier, place
    return None
