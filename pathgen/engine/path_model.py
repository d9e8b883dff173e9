"""A frozen Hugging Face causal language model whose decoder layers consult a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..bridges.maps import Bridges
from ..models.loading import load_model
from ..paths.layer_path import LayerAction
from .cache import RoutedCache, RowPlan, layer_cache
from .policies import FixedPaths, LayerPolicy
from .probe.arguments import RowAxes
from .probe.load_probe import probe_model
from .probe.restrictions import Restrictions
from .supported import PinnedLayerError, find_head, find_layers, pinned_layers, take_rows
from .vocabulary import float32_head, in_one_piece

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LayerFunction = Callable[..., Any]
"""(layer index, hidden [B, T, H], *the layer's other arguments) -> what the layer would return."""
LayerCalls = list[tuple[tuple, dict]]
"""(args, kwargs) of each layer, without the hidden states."""


class PathModel:
    """Runs an unmodified Hugging Face model along layer paths.

    The model's own forward runs embeddings, masks, rotary tables, final norm and head. Each decoder layer's `forward`
    is replaced on the instance by one that consults the current mode. No module is replaced, the names in the state
    dict stay, and without a policy the model gives its published outputs.

    Attributes:
        bridges: run wherever a path skips a layer; None: a skipped layer leaves the states as they are.
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
        self.num_layers = len(self.layers)
        self._stock = [layer.forward for layer in self.layers]
        self._own = [vars(layer).get("forward") for layer in self.layers]  # a hook set before us, or None
        self._mode: LayerFunction | None = None
        self._waiting: RoutedCache | None = None
        self._inside = False  # a forward of the whole model has been checked, and its body runs
        self._returns_tuple = [False] * self.num_layers
        self.bridges: Bridges | None = None
        self.name = type(hf_model).__name__
        self.pinned_layers = pinned_layers(self.layers)
        self.row_axes: RowAxes = {}
        self.restrictions = Restrictions(self.name)
        for index, layer in enumerate(self.layers):
            layer.forward = self._wrapper(index)
        self._hooks = [
            head.register_forward_pre_hook(
                lambda head, given: None if self._mode is None else in_one_piece(head, given)
            ),
            *(part.register_forward_pre_hook(self._enter, with_kwargs=True) for part in self._entries()),
            hf_model.register_forward_hook(self._leave, always_call=True),
        ]
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

    @contextmanager
    def bridged(self, bridges: Bridges | None) -> Iterator[None]:
        """Within the block, these bridges run where a path skips; None: none.

        Raises:
            ValueError: bridges of another number of layers or width.
        """
        before = self.bridges
        self.use_bridges(bridges)
        try:
            yield
        finally:
            self.bridges = before

    def use_bridges(self, bridges: Bridges | None) -> None:
        """From now on, these bridges run where a path skips; arguments and errors as `bridged`."""
        self.bridges = self.placed(bridges)

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
            MixedRowsError: rows that this model cannot run together.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self._moves(mask) and not kwargs:
            places = _first_tokens_first(mask)
            found = self.logits(input_ids.gather(1, places), mask.gather(1, places), policy=policy)
            return found.gather(1, places.argsort(1)[..., None].expand_as(found))
        with self.routed(policy, mask):
            return self.hf_model(**forward_inputs(input_ids, mask), **kwargs).logits

    @torch.inference_mode()
    def states(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, policy: LayerPolicy) -> Tensor:
        """One forward along the policy's paths without the head: [B, T, H] that the last layer returns.

        Arguments as `logits`; `head` gives the logits of chosen states.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self._moves(mask):
            places = _first_tokens_first(mask)
            found = self.states(input_ids.gather(1, places), mask.gather(1, places), policy=policy)
            return found.gather(1, places.argsort(1)[..., None].expand_as(found))
        with self.routed(policy, mask):
            return self.run_body(**forward_inputs(input_ids, mask))

    def _moves(self, mask: Tensor) -> bool:
        """Whether rows padded on the left must move to the right: padding there would move their positions."""
        return self.restrictions.one_length and not bool(mask[:, 0].all())

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
            ValueError: `use_cache=False`: the cache is needed, because it stores the path.
            MixedRowsError: rows that this model cannot run together, or that would cross its rotary table's border.
        """
        if not kwargs.pop("use_cache", True):
            raise ValueError("generation along paths needs the cache: the paths are decided at prefill and kept in it")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self.restrictions.rope_border is not None:
            longest = kwargs.get("max_length") or 0
            new_tokens = kwargs.get("max_new_tokens") or max(0, longest - input_ids.shape[1])
            self.restrictions.check_room(mask.sum(-1), new_tokens)
        kwargs.setdefault("do_sample", False)
        config = kwargs.get("generation_config")
        if kwargs.get("pad_token_id") is None and getattr(config, "pad_token_id", None) is None:
            kwargs["pad_token_id"] = self.pad_token_id
        cache = self.new_cache() if cache is None else cache
        with self.routed(policy, mask), self._first_with(cache):
            return self.hf_model.generate(
                input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True, **kwargs
            )

    def new_cache(self) -> RoutedCache:
        """An empty cache for this model's layers."""
        return RoutedCache(self.num_layers)

    @property
    def pad_token_id(self) -> int:
        """Fills a finished row while others continue: the model's pad token, else its end of text, else 0."""
        config = self.hf_model.generation_config
        eos = config.eos_token_id
        candidates = (config.pad_token_id, eos[0] if isinstance(eos, list) else eos)
        return next((token for token in candidates if token is not None), 0)

    def unwrap(self) -> None:
        """Restore the model's own layer forwards."""
        for hook in self._hooks:
            hook.remove()
        for layer, own in zip(self.layers, self._own, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own

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

    def _entries(self) -> list[nn.Module]:
        """Where a forward begins: the model, and its part without a head."""
        whole, body = self.hf_model, self.hf_model.base_model
        return [whole] if body is whole else [whole, body]

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        needed = self.restrictions.checked or self.pinned_layers
        if self._mode is None or self._inside or not needed:
            return None
        self._inside = module is self.hf_model
        try:
            given = self.restrictions.inputs(kwargs)
        except BaseException:
            self._inside = False
            raise
        if self._waiting is not None:  # a family may drop an empty cache, to make one of its own
            given, self._waiting = {**given, "past_key_values": self._waiting}, None
        if self.pinned_layers and "logits_to_keep" in given:  # else the last layers see the last tokens alone
            given = {**given, "logits_to_keep": 0}
        return args, given

    @contextmanager
    def _first_with(self, cache: RoutedCache) -> Iterator[None]:
        """Within the block, the first forward has this cache."""
        self._waiting = cache if self.restrictions.checked else None
        try:
            yield
        finally:
            self._waiting = None

    def _leave(self, module: nn.Module, *_: Any) -> None:
        self._inside = False

    # Modes: what a layer's forward currently does.

    def _wrapper(self, index: int) -> LayerFunction:
        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            return (self._mode or self._run_stock)(index, hidden, *args, **kwargs)

        return forward

    def _run_stock(self, index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._stock[index](hidden, *args, **kwargs)

    @contextmanager
    def mode(self, function: LayerFunction) -> Iterator[None]:
        """Within the block, every decoder layer calls `function` instead of its own forward."""
        before, self._mode = self._mode, function
        try:
            yield
        finally:
            self._mode = before

    @contextmanager
    def routed(self, policy: LayerPolicy, prompt_mask: Tensor) -> Iterator[None]:
        """Within the block, the model's forward runs along the policy's paths.

        The policy sees `prompt_mask` [B, T]. A forward over k·B rows (beams) repeats each row's decision k times.

        Raises:
            ValueError: fixed paths of another number of layers, or a policy that does not return one action per row.
        """
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
        out = self._stock[index](hidden, *args, **kwargs)
        self._returns_tuple[index] = isinstance(out, tuple)
        return out[0] if isinstance(out, tuple) else out

    def run_body(self, **inputs: Any) -> Tensor:
        """[B, T, H] that the last layer returns: a forward in the current mode that ends before the head."""
        mode, last = self._mode, self.num_layers - 1
        found: list[Tensor] = []

        def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            out = (mode or self._run_stock)(index, hidden, *args, **kwargs)
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
        are its own.
        """

        def inject(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            last = index == self.num_layers - 1
            return self.as_returned(index, states[:, None] if last else hidden)

        first = torch.zeros(len(states), 1, dtype=torch.long, device=self.device)
        with self.mode(inject), float32_head(self.hf_model):
            return self.hf_model(input_ids=first, position_ids=first, use_cache=False).logits[:, 0].float()

    def as_returned(self, index: int, hidden: Tensor) -> Any:
        """Wrap the states as this layer's own forward would return them."""
        return (hidden, None) if self._returns_tuple[index] else hidden


def _first_tokens_first(mask: Tensor) -> Tensor:
    """[B, T] the places of each row's tokens, then of its padding."""
    return mask.argsort(dim=1, descending=True, stable=True)


def forward_inputs(input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
    """The arguments of a model's forward without a cache: ids and mask [B, T], padded left or right, and positions."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
