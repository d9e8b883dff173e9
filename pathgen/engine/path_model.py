"""A frozen Hugging Face causal language model whose decoder layers consult a policy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models.loading import load_model
from ..models.token_inputs import IDS_ONLY, ONE_FORWARD, OWN_CACHE, check_continues, checked_mask, refuse_options
from ..paths.layer_path import LayerAction
from ..slots.layer_slots import holds_state, slot_makers
from .cache import RoutedCache
from .policies import Cascade, FixedPaths, LayerPolicy
from .probe.load_probe import probe_model
from .supported import PinnedLayerError, layer_places
from .wrapped.bridged_model import BridgedModel
from .wrapped.entries import ForwardEntries
from .wrapped.routing import Routing

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NOT_IN_A_FORWARD = {
    **dict.fromkeys(("past_key_values", "use_cache", "position_ids"), ONE_FORWARD),
    "inputs_embeds": IDS_ONLY,
}
NOT_IN_GENERATE = {"past_key_values": OWN_CACHE, "inputs": IDS_ONLY, "inputs_embeds": IDS_ONLY}
"""Options of transformers that cannot be given, and why."""


class PathModel(BridgedModel):
    """Runs an unmodified Hugging Face model along layer paths.

    Without a policy the model gives its published outputs. Threads may share one PathModel. A deep copy has a model of
    its own; neither is ever pickled.

    Attributes:
        carries_state: whether a layer holds a convolution window or a recurrent state.
        slot_makers: what makes the cache slots of each layer.

    Raises:
        UnsupportedModelError: the model cannot be run along paths; the message names it and the reason.
    """

    def __init__(self, hf_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None):
        super().__init__(hf_model)
        self.tokenizer = tokenizer
        self.slot_makers = slot_makers(self.config, self.num_layers)
        self.layer_places = layer_places(self.layers)
        self.carries_state = any(holds_state(make()) for make in self.slot_makers)
        self._entries = ForwardEntries(self)
        self.hooks += self._entries.hooks
        try:
            probe_model(self)
        except BaseException:
            self.unwrap()
            raise

    @classmethod
    def from_pretrained(
        cls, name: str, *, dtype: str = "float32", device: str = "cpu", device_map: Any = None
    ) -> PathModel:
        """Load an alias, a folder or a hub id; see `load_model` for arguments and errors."""
        return cls(*load_model(name, dtype=dtype, device=device, device_map=device_map))

    def __deepcopy__(self, memo: dict[int, Any]) -> PathModel:
        model = PathModel(copy.deepcopy(self.hf_model, memo), self.tokenizer)
        model.use_bridges(self.bridges)
        return model

    @torch.inference_mode()
    def logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, policy: LayerPolicy, **kwargs: Any
    ) -> Tensor:
        """One forward along the policy's paths: [B, T, V] logits, without meaning at padding.

        Args:
            input_ids: [B, T], padded left or right.
            attention_mask: [B, T] 1 for tokens, 0 for padding; all ones if absent.
            policy: decides the paths.
            kwargs: passed to the model's forward (for example `logits_to_keep`).

        Raises:
            ValueError: ids, mask, policy or an option cannot be used.
            MixedRowsError: rows that this model cannot run together.
        """
        refuse_options(kwargs, NOT_IN_A_FORWARD)
        mask = self._mask(input_ids, attention_mask)
        if self._moves(mask) and not kwargs:
            return self._moved(self.logits, input_ids, mask, policy)
        with self.routed(policy, mask):
            return self.hf_model(**forward_inputs(input_ids, mask), **kwargs).logits

    @torch.inference_mode()
    def states(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, policy: LayerPolicy) -> Tensor:
        """One forward along the policy's paths without the head: [B, T, H] that the last layer returns.

        Arguments and errors as `logits`; `head` gives the logits of chosen states.
        """
        mask = self._mask(input_ids, attention_mask)
        if self._moves(mask):
            return self._moved(self.states, input_ids, mask, policy)
        with self.routed(policy, mask):
            return self.run_body(**forward_inputs(input_ids, mask))

    def _moves(self, mask: Tensor) -> bool:
        """Whether rows padded on the left must move to the right: padding there would move their positions."""
        return self.restrictions.one_length and not bool(mask[:, 0].all())

    def _moved(self, run: Callable[..., Tensor], input_ids: Tensor, mask: Tensor, policy: LayerPolicy) -> Tensor:
        """What `run` (`logits` or `states`) gives each token when its row's padding is on the right."""
        places = mask.argsort(dim=1, descending=True, stable=True)  # of each row's tokens, then of its padding
        found = run(input_ids.gather(1, places), mask.gather(1, places), policy=policy)
        return found.gather(1, places.argsort(1)[..., None].expand_as(found))

    @torch.inference_mode()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        policy: LayerPolicy,
        cache: RoutedCache | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Generate along the policy's paths, decided at prefill and replayed at each decode step: [B, T + new] ids.

        Args:
            input_ids: [B, T] prompts, padded left.
            attention_mask: [B, T]; all ones if absent.
            policy: decides the paths.
            cache: already filled with the first tokens of these prompts; a new one if absent.
            kwargs: as transformers' `generate`; greedy unless `do_sample` or beams are set.

        Raises:
            ValueError: ids, mask, policy or an option cannot be used; `use_cache=False`: the cache stores the path; a
                cache of other prompts, or used before.
            MixedRowsError: rows that this model cannot run together, or that would cross its rotary table's border.
        """
        refuse_options(kwargs, NOT_IN_GENERATE)
        if not kwargs.pop("use_cache", True):
            raise ValueError("generation along paths needs the cache: the paths are decided at prefill and kept in it")
        mask = self._mask(input_ids, attention_mask)
        if cache is not None:
            check_continues(input_ids, cache.get_seq_length(), cache.batch_size, kwargs.get("num_beams") or 1)
        if self.restrictions.border is not None:
            longest = kwargs.get("max_length") or 0
            new_tokens = kwargs.get("max_new_tokens") or max(0, longest - input_ids.shape[1])
            self.restrictions.check_room(mask.sum(-1), new_tokens)
        kwargs.setdefault("do_sample", False)
        config = kwargs.get("generation_config")
        if kwargs.get("pad_token_id") is None and getattr(config, "pad_token_id", None) is None:
            kwargs["pad_token_id"] = self.pad_token_id
        cache = self.new_cache() if cache is None else cache
        with self.routed(policy, mask), self._entries.first_cache(cache):
            return self.hf_model.generate(
                input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True, **kwargs
            )

    def new_cache(self) -> RoutedCache:
        """An empty cache for this model's layers."""
        return RoutedCache(self.slot_makers, self.layer_places)

    def _mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        return checked_mask(input_ids, attention_mask, self.hf_model.get_input_embeddings().num_embeddings)

    @property
    def pad_token_id(self) -> int:
        """Fills a finished row while others continue: the model's pad token, else its end of text, else 0."""
        config = self.hf_model.generation_config
        eos = config.eos_token_id
        candidates = (config.pad_token_id, eos[0] if isinstance(eos, list) else eos)
        return next((token for token in candidates if token is not None), 0)

    def check_paths(self, paths: Iterable[Sequence[int]]) -> None:
        """Refuse paths that this model cannot run.

        Raises:
            PinnedLayerError: a path skips or repeats a pinned layer.
            ValueError: a path has another number of layers.
        """
        for path in paths:
            if len(path) != self.num_layers:
                raise ValueError(f"paths of {len(path)} layers for a model of {self.num_layers}")
            for layer in self.pinned_layers:
                if path[layer] != LayerAction.EXECUTE:
                    raise PinnedLayerError(
                        f"{self.name}: layer {layer} is {'repeated' if path[layer] else 'skipped'}, but later layers "
                        "read its keys and values: it always executes once"
                    )

    def routed(self, policy: LayerPolicy, prompt_mask: Tensor) -> AbstractContextManager[None]:
        """Within the block, the model's forward runs along the policy's paths.

        The policy sees `prompt_mask` [B, T]. A forward over k·B rows (beams) repeats each row's decision k times.

        Raises:
            ValueError: fixed paths of another number of layers, or a policy that does not return one action per row.
        """
        if not hasattr(policy, "actions"):
            raise ValueError(f"the policy is {type(policy).__name__}; FixedPaths(paths) follows given paths")
        if isinstance(policy, FixedPaths) and (self.pinned_layers or policy.table.shape[1] != self.num_layers):
            self.check_paths(policy.table.tolist())
        if isinstance(policy, Cascade):
            self.check_paths([policy.path])
        return self.mode(Routing(self, policy, prompt_mask))


def forward_inputs(input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
    """The arguments of a model's forward without a cache: ids and mask [B, T], padded left or right, and positions."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
