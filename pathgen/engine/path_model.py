"""A frozen Hugging Face causal language model whose decoder layers consult a policy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..bridges.maps import Bridges
from ..hooks.forwards import HookedForward, shared_module
from ..hooks.here import Here
from ..models.loading import load_model
from ..models.token_inputs import IDS_ONLY, ONE_FORWARD, OWN_CACHE, check_continues, checked_mask, refuse_options
from ..paths.layer_path import LayerAction
from ..slots.layer_slots import holds_state, slot_makers
from .cache import RoutedCache, RowPlan, layer_cache
from .policies import FixedPaths, LayerPolicy
from .probe.arguments import RowAxes
from .probe.load_probe import probe_model
from .probe.restrictions import Restrictions
from .supported import (
    PinnedLayerError,
    UnsupportedModelError,
    find_head,
    find_layers,
    layer_places,
    pinned_layers,
    take_rows,
)
from .vocabulary import float32_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LayerFunction = Callable[..., Any]
"""(layer index, hidden [B, T, H], *the layer's other arguments) -> what the layer would return."""
LayerCalls = list[tuple[tuple, dict]]
"""(args, kwargs) of each layer, without the hidden states."""
NOT_IN_A_FORWARD = {
    **dict.fromkeys(("past_key_values", "use_cache", "position_ids"), ONE_FORWARD),
    "inputs_embeds": IDS_ONLY,
}
NOT_IN_GENERATE = {"past_key_values": OWN_CACHE, "inputs": IDS_ONLY, "inputs_embeds": IDS_ONLY}
"""Options of transformers that cannot be given, and why."""


class PathModel:
    """Runs an unmodified Hugging Face model along layer paths.

    The model's own forward runs embeddings, masks, rotary tables, final norm and head. Each decoder layer's `forward`
    is replaced on the instance by one that consults the calling thread's mode. No module is replaced, the names in the
    state dict stay, and without a policy the model gives its published outputs. Threads may share one PathModel. A deep
    copy has a model of its own; neither is ever pickled.

    Attributes:
        pinned_layers: always execute once, because later layers read their keys and values.
        restrictions: how rows may share a batch, as tried when the model was wrapped.
        row_axes: where rows lie in its layers' arguments, if not first.

    Raises:
        UnsupportedModelError: the model cannot be run along paths; the message names it and the reason.
    """

    def __init__(self, hf_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None):
        self.hf_model = hf_model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.layers: list[nn.Module] = find_layers(hf_model)
        head = find_head(hf_model)
        if (places := shared_module(self.layers)) is not None:
            raise UnsupportedModelError(
                f"{type(hf_model).__name__}: its layers {places[0]} and {places[1]} are one module, with one place "
                "in paths and in the cache; give each layer its own (copy.deepcopy)"
            )
        self.num_layers = len(self.layers)
        self.slot_makers = slot_makers(self.config, self.num_layers)
        self.layer_places = layer_places(self.layers)
        self.carries_state = any(holds_state(make()) for make in self.slot_makers)
        self._mode = Here[LayerFunction]()
        self._float32_head = Here[bool]()
        self._returns_tuple = [False] * self.num_layers
        self.name = type(hf_model).__name__
        self.pinned_layers = pinned_layers(self.layers)
        self.row_axes: RowAxes = {}
        self.restrictions = Restrictions(self.name)
        self._waiting = Here[list[RoutedCache]]()
        self._inside = Here[bool]()
        self._bridges: Bridges | None = None
        self._bridges_here = Here[tuple[Bridges | None]]()
        self._hooks = [HookedForward(layer, partial(self._run, index)) for index, layer in enumerate(self.layers)]
        self._head_hook = HookedForward(head, self._run_head)
        self._entries = [
            HookedForward(part, partial(self._run_whole, place)) for place, part in enumerate(self._wholes())
        ]
        self._is_wrapped = True
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

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a PathModel cannot be pickled: load the model again, or save hf_model with save_pretrained")

    @property
    def bridges(self) -> Bridges | None:
        """What runs wherever a path skips a layer; None: a skipped layer leaves the states as they are."""
        here = self._bridges_here.get()
        return self._bridges if here is None else here[0]

    def bridged(self, bridges: Bridges | None) -> AbstractContextManager[None]:
        """Within the block, these bridges run where a path of this thread skips; None: none.

        Raises:
            ValueError: bridges of another number of layers or width.
        """
        return self._bridges_here.be((self.placed(bridges),))

    def use_bridges(self, bridges: Bridges | None) -> None:
        """From now on, these bridges run where a path skips; arguments and errors as `bridged`."""
        self._bridges = self.placed(bridges)

    def placed(self, bridges: Bridges | None) -> Bridges | None:
        """Bridges on the devices of their layers, in the model's dtype; arguments and errors as `bridged`."""
        if bridges is None:
            return None
        layers, width = self.num_layers, self.config.hidden_size
        if (bridges.num_layers, bridges.width) != (layers, width):
            raise ValueError(
                f"bridges of {bridges.num_layers} layers of width {bridges.width}, a model of {layers} of {width}"
            )
        devices = [next(layer.parameters()).device for layer in self.layers]
        return bridges.placed(devices, self.hf_model.dtype)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.hf_model.device

    @property
    def config(self) -> Any:
        """The text model's config."""
        return self.hf_model.config.get_text_config()

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
        with self.routed(policy, mask), self._waiting.be([cache] if self.restrictions.checked else []):
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

    def unwrap(self) -> None:
        """Restore the model's own forwards. This PathModel then runs no more; `PathModel(hf_model)` wraps again.

        Raises:
            ValueError: the model was wrapped again since.
        """
        if not self._is_wrapped:
            return
        hooks = [*self._hooks, self._head_hook, *self._entries]
        if not all(hook.is_outermost for hook in hooks):
            raise ValueError("the model was wrapped again since: unwrap the later PathModel first")
        for hook in hooks:
            hook.restore()
        self._is_wrapped = False

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

    # What every forward of a restricted model is checked for.

    def _wholes(self) -> list[nn.Module]:
        """Where a forward begins: the model, and its part without a head."""
        whole, body = self.hf_model, self.hf_model.base_model
        return [whole] if body is whole else [whole, body]

    def _run_whole(self, place: int, *args: Any, **kwargs: Any) -> Any:
        stock = self._entries[place].stock
        if self._mode.get() is None or self._inside.get() or not (self.restrictions.checked or self.pinned_layers):
            return stock(*args, **kwargs)
        given = self.restrictions.inputs(kwargs)
        if waiting := self._waiting.get():  # a family may drop an empty cache, to make one of its own
            given = {**given, "past_key_values": waiting.pop()}
        if self.pinned_layers and "logits_to_keep" in given:  # else the last layers see the last tokens alone
            given = {**given, "logits_to_keep": 0}
        with self._inside.be(True):
            return stock(*args, **given)

    # Modes: what a layer's forward currently does in this thread.

    def _run(self, index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (self._mode.get() or self.run_published)(index, hidden, *args, **kwargs)

    def run_published(self, index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The layer's own forward, with what it returns as it is."""
        return self._hooks[index].stock(hidden, *args, **kwargs)

    def _run_head(self, states: Tensor, *args: Any, **kwargs: Any) -> Any:
        head = self._head_hook
        if self._mode.get() is not None:
            states = states.contiguous()  # the product of a strided batch copies the whole weight for each row
        if self._float32_head.get() and type(head.module) is nn.Linear:
            return float32_logits(head.module, states)
        return head.stock(states, *args, **kwargs)

    def mode(self, function: LayerFunction) -> AbstractContextManager[None]:
        """Within the block, every decoder layer calls `function` instead of its own forward, in this thread.

        Raises:
            ValueError: the model is unwrapped.
        """
        if not self._is_wrapped:
            raise ValueError(
                "this PathModel was unwrapped, so its layers follow no path: wrap with PathModel(hf_model)"
            )
        return self._mode.be(function)

    @contextmanager
    def routed(self, policy: LayerPolicy, prompt_mask: Tensor) -> Iterator[None]:
        """Within the block, the model's forward runs along the policy's paths.

        The policy sees `prompt_mask` [B, T]. A forward over k·B rows (beams) repeats each row's decision k times.

        Raises:
            ValueError: fixed paths of another number of layers, or a policy that does not return one action per row.
        """
        if not hasattr(policy, "actions"):
            raise ValueError(f"the policy is {type(policy).__name__}; FixedPaths(paths) follows given paths")
        if isinstance(policy, FixedPaths) and (self.pinned_layers or policy.table.shape[1] != self.num_layers):
            self.check_paths(policy.table.tolist())

        def run(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            cache = layer_cache(args, kwargs, self.name)
            plan = cache.plans.get(index) if cache is not None else None
            if plan is None:
                copies = hidden.shape[0] // len(prompt_mask)
                decided = policy.actions(index, hidden[::copies], prompt_mask)
                if decided.shape != (len(prompt_mask),):
                    raise ValueError(
                        f"a policy returns one action per row: shape ({len(prompt_mask)},); got {tuple(decided.shape)}"
                    )
                plan = RowPlan.of(decided.repeat_interleave(copies), hidden.device)
                if index in self.pinned_layers and not bool((plan.actions == LayerAction.EXECUTE).all()):
                    raise PinnedLayerError(
                        f"{self.name}: layer {index} always executes once: later layers read its keys"
                    )
                if cache is not None:
                    cache.plans[index] = plan
            if self.bridges is not None:
                for rows in plan.skipped:
                    hidden = self._bridge_rows(index, rows, hidden)
            for turn, rows in enumerate(plan.passes):
                if cache is not None:
                    cache.turn = turn
                if rows is None:
                    hidden = self.run_layer(index, hidden, args, kwargs)
                else:
                    hidden = self._run_rows(index, rows.to(hidden.device), hidden, args, kwargs)
            if cache is not None and index == self.num_layers - 1:
                cache.length += hidden.shape[1]
            return self.as_returned(index, hidden)

        with self.mode(run):
            yield

    def _run_rows(self, index: int, rows: Tensor, hidden: Tensor, args: tuple, kwargs: dict) -> Tensor:
        some_args, some_kwargs = take_rows((args, kwargs), rows, hidden.shape[0], self.row_axes)
        ran = self.run_layer(index, hidden[rows], some_args, some_kwargs)
        # In a model spread over devices, each layer returns on its own device, and the states continue there.
        return hidden.to(ran.device).index_copy(0, rows.to(ran.device), ran)

    def _bridge_rows(self, index: int, rows: Tensor | None, hidden: Tensor) -> Tensor:
        if rows is None:
            return self.run_bridge(index, hidden)
        rows = rows.to(hidden.device)
        return hidden.index_copy(0, rows, self.run_bridge(index, hidden[rows]).to(hidden.device))

    def run_bridge(self, index: int, hidden: Tensor) -> Tensor:
        """The layer's bridge, on its device: [..., H] in, [..., H] out."""
        assert self.bridges is not None
        bridge = self.bridges.maps[index]
        return bridge.apply(hidden.to(bridge.bias.device))

    def run_layer(self, index: int, hidden: Tensor, args: tuple, kwargs: dict) -> Tensor:
        """The layer's own forward: [R, T, H] in, [R, T, H] out."""
        out = self.run_published(index, hidden, *args, **kwargs)
        self._returns_tuple[index] = isinstance(out, tuple)
        return out[0] if isinstance(out, tuple) else out

    def run_body(self, **inputs: Any) -> Tensor:
        """[B, T, H] that the last layer returns: a forward in the current mode that ends before the head."""
        mode, last = self._mode.get(), self.num_layers - 1
        found: list[Tensor] = []

        def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            out = (mode or self.run_published)(index, hidden, *args, **kwargs)
            if index == last:
                found.append(out[0] if isinstance(out, tuple) else out)
            return out

        with self.mode(watch):
            self.hf_model.base_model(**inputs)
        return found[0]

    def capture(self, **inputs: Any) -> tuple[Tensor, LayerCalls]:
        """The first hidden states [B, T, H] of a forward, and what each layer is called with; no layer runs."""
        first: list[Tensor] = []
        calls: LayerCalls = []

        def record(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            if index == 0:
                first.append(hidden)
            calls.append((args, kwargs))
            return self.as_returned(index, hidden)

        with self.mode(record):
            self.hf_model.base_model(**inputs)
        return first[0], calls

    def head(self, states: Tensor) -> Tensor:
        """[N, V] float32 logits of [N, H] states that the last layer returned.

        A stock forward of N rows of one token takes them as its last layer's output, so norm, head and soft-capping
        are its own. A head that is not a plain linear layer (a quantised one, for example) gives its own dtype.
        """

        def inject(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            last = index == self.num_layers - 1
            return self.as_returned(index, states[:, None] if last else hidden)

        first = torch.zeros(len(states), 1, dtype=torch.long, device=self.device)
        with self.mode(inject), self._float32_head.be(True):
            return self.hf_model(input_ids=first, position_ids=first, use_cache=False).logits[:, 0].float()

    def as_returned(self, index: int, hidden: Tensor) -> Any:
        """Wrap the states as this layer's own forward would return them."""
        return (hidden, None) if self._returns_tuple[index] else hidden


def forward_inputs(input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
    """The arguments of a model's forward without a cache: ids and mask [B, T], padded left or right, and positions."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
