"""RoutedModel: a frozen model with its router, used like the model alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput

from pathgen.engine.path_model import PathModel
from pathgen.engine.probe.restrictions import RowKind
from pathgen.errors import ArtefactError
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.evaluation.decoding import before_stop, left_padded
from pathgen.evaluation.evaluator import context_tokens
from pathgen.models.resolving import resolve_model
from pathgen.models.token_inputs import checked_mask, refuse_options, texts_of, token_rows_of, whole_number
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.chat import Chat
from router.net.policy import policy_of
from router.net.router import Router

from .given_router import router_for, uses_chat
from .prompts import BATCH_SIZE, MAX_NEW_TOKENS, check_context, encode_prompts
from .scoring import Score, WholePromptPolicy, continuation_logits, continuation_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


OWN_PATHS = "a routed model decides each row's path, and keeps it in a cache of its own: leave out {}"


@dataclass(frozen=True, slots=True)
class Completion:
    """The generated answer to a prompt, up to the end token or the first stop string.

    Attributes:
        depth: layer executions of each forward pass.
        new_tokens: number of tokens generated before the end token.
        tokens: ids of the answer's tokens, with the end token if there was one.
    """

    text: str
    path: LayerPath
    depth: int
    new_tokens: int
    tokens: tuple[int, ...] = field(default=(), repr=False)


class RoutedModel:
    """A frozen causal language model that runs each prompt along the path that its router decides.

    The router decides layer by layer during the prefill, from the states of the row's own prompt; a cascade decides
    after the last layer, from the next token's logits. The path holds for the whole sequence. A row's results
    therefore do not depend on the other rows of its batch.

    Args:
        path_model: the wrapped model.
        router: trained for this model; moved to its device. Its bridges run where it skips.
        bias: added to SKIP logits and subtracted from REPEAT logits; 0 is as trained.

    Attributes:
        cache_bytes: size of the cache after the last `generate`, or after the largest batch of the last `complete`.

    Raises:
        ArtefactError: the router is for another number of layers or another width.
    """

    def __init__(self, path_model: PathModel, router: Router, *, bias: float = 0.0):
        ours = (path_model.num_layers, path_model.config.hidden_size)
        its = (router.config.num_layers, router.config.hidden_size)
        if ours != its:
            raise ArtefactError(
                f"the router for {router.config.base_model} is for {its[0]} layers of width {its[1]}; "
                f"the model at hand has {ours[0]} of width {ours[1]}"
            )
        self.path_model = path_model
        self.router = router.to(path_model.device)
        self.policy = policy_of(self.router, bias, path_model.pinned_layers)
        self._bridges = path_model.placed(router.bridges)
        self.cache_bytes = 0

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        router: str | Path,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        device_map: Any = None,
        bias: float = 0.0,
    ) -> RoutedModel:
        """Load a model and its router; the router is checked before the model is loaded.

        Args:
            base: alias, folder or hub id of the model.
            router: folder or hub id of the router.
            dtype: of the model's weights; the router uses float32.
            device: a torch device; ignored if `device_map` is given.
            device_map: as in transformers, for a model larger than one device.
            bias: added to SKIP logits and subtracted from REPEAT logits; 0 is as trained.

        Raises:
            InputError: the model, router, dtype or device does not exist or cannot be used.
            ArtefactError: the router is damaged, or of another model.
        """
        found = router_for(resolve_model(str(base)), router)
        model = PathModel.from_pretrained(str(base), dtype=dtype, device=device, device_map=device_map)
        return cls(model, found, bias=bias)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The base model's tokenizer."""
        return self.path_model.tokenizer

    @property
    def device(self) -> torch.device:
        """The device of inputs."""
        return self.path_model.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> CausalLMOutput:
        """One forward; all tokens count as the prompt.

        Args:
            input_ids: [B, T] token ids, padded left or right.
            attention_mask: [B, T] 1 for tokens, 0 for padding; all ones if absent.
            kwargs: passed to the model's forward (for example `logits_to_keep`).

        Returns:
            An object with `logits` [B, T, V]; those at padding have no meaning.
        """
        with self.path_model.bridged(self._bridges):
            logits = self.path_model.logits(input_ids, attention_mask, policy=self.policy, **kwargs)
        return CausalLMOutput(logits=logits)

    __call__ = forward

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Continue prompts, as transformers' `generate` does.

        Args:
            input_ids: [B, T] prompts, padded on the left.
            attention_mask: [B, T] 1 for tokens, 0 for padding; all ones if absent.
            kwargs: as for transformers: sampling, beams, `stop_strings`, `streamer`, …; greedy by default.

        Returns:
            [B, T + new] token ids.

        Raises:
            ValueError: ids, mask or an option (as `past_key_values`) cannot be used, prompts are padded on the right,
                or the decoding method does not run the prompt in one forward with a cache.
        """
        return self._generate(input_ids, attention_mask, kwargs)[0]

    def complete(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = MAX_NEW_TOKENS,
        batch_size: int = BATCH_SIZE,
        chat: Chat | None = None,
        *,
        on_done: Callable[[int], None] = lambda done: None,
        **kwargs: Any,
    ) -> list[Completion]:
        """The answer to each prompt, in order. Greedy results do not depend on the batch size.

        Args:
            prompts: texts, as a list; a single text is refused.
            max_new_tokens: per answer.
            batch_size: prompts per batch; those of similar length share a batch, longest first.
            chat: whether to use the chat template, or the day of the chat (2026-01-31); None: as `uses_chat` decides.
            on_done: called after each batch with the number of finished prompts.
            kwargs: as for `generate`.

        Raises:
            InputError: a prompt is not usable text or does not fit the context; see `encode_prompts`.
            ValueError: prompts is one text or no list, or an option cannot be used.
        """
        whole_number(max_new_tokens, "max_new_tokens")
        prompts = texts_of(prompts)
        if self._setting("num_return_sequences", kwargs) not in (None, 1):
            raise ValueError("complete returns one completion per prompt; generate accepts num_return_sequences")
        ids = self._encode(prompts, chat)
        check_context(ids, max_new_tokens, context_tokens(self.path_model.config))
        found: dict[int, Completion] = {}
        most_bytes = 0
        for batch in _longest_first(ids, batch_size, partial(self.path_model.restrictions.kind, decodes=True)):
            rows, mask = left_padded([ids[index] for index in batch], self.device)
            tokens, paths = self._generate(rows, mask, {**kwargs, "max_new_tokens": max_new_tokens})
            most_bytes = max(most_bytes, self.cache_bytes)
            for index, new, path in zip(batch, tokens[:, rows.shape[1] :].tolist(), paths, strict=True):
                found[index] = self._completion(new, path, kwargs)
            on_done(len(found))
        self.cache_bytes = most_bytes
        return [found[index] for index in range(len(prompts))]

    def score(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], batch_size: int = BATCH_SIZE
    ) -> list[Score]:
        """The score of each continuation after its prompt, in order; both are token ids.

        Prompt and continuation are one row of one forward, in which the router sees only the prompt's tokens.

        Raises:
            ValueError: a prompt or a continuation is no row of tokens or has none, or their numbers differ.
            InputError: they do not fit the context.
        """
        pairs = list(zip(token_rows_of(prompts, "prompts"), token_rows_of(continuations, "continuations"), strict=True))
        if not all(len(prompt) and len(continuation) for prompt, continuation in pairs):
            raise ValueError("a prompt and a continuation have at least one token each")
        rows = [[*prompt, *continuation] for prompt, continuation in pairs]
        check_context(rows, 0, context_tokens(self.path_model.config))
        found: dict[int, Score] = {}
        for batch in _longest_first(rows, batch_size, self.path_model.restrictions.kind):
            recorded = WholePromptPolicy(self.policy)
            forced = [(pairs[index][0], pairs[index][1][:-1]) for index in batch]  # the last token does not run
            with self.path_model.bridged(self._bridges):
                logits = continuation_logits(self.path_model, recorded, forced)
            for index, row, path in zip(batch, logits, recorded.paths(), strict=True):
                logprobs, greedy = continuation_logprobs(row, pairs[index][1])
                found[index] = Score(sum(logprobs), tuple(logprobs), greedy, path)
        return [found[index] for index in range(len(pairs))]

    def paths(self, prompts: Sequence[str], chat: Chat | None = None) -> list[LayerPath]:
        """The path that the router decides on each prompt, in order; `chat` is as for `complete`.

        Raises:
            InputError: a prompt is not usable text or does not fit the context; see `encode_prompts`.
            ValueError: prompts is one text or no list.
        """
        ids = self._encode(texts_of(prompts), chat)
        check_context(ids, 0, context_tokens(self.path_model.config))
        with self.path_model.bridged(self._bridges):
            return decide_paths(self.path_model, self.policy, ids)

    def _encode(self, prompts: Sequence[str], chat: Chat | None) -> list[list[int]]:
        if self.tokenizer is None:
            raise ValueError("texts need a RoutedModel with a tokenizer")
        if chat is None:
            ends = frozenset(_as_list(self._setting("eos_token_id", {})))
            chat = uses_chat(self.router.config, self.tokenizer, ends)
        return encode_prompts(self.tokenizer, prompts, chat=chat)

    def _generate(
        self, input_ids: Tensor, attention_mask: Tensor | None, kwargs: Mapping[str, Any]
    ) -> tuple[Any, list[LayerPath]]:
        """The result of the model's own generate, and each prompt's path."""
        refuse_options(kwargs, {"policy": OWN_PATHS, "cache": OWN_PATHS})
        mask = checked_mask(input_ids, attention_mask, self.path_model.hf_model.get_input_embeddings().num_embeddings)
        if not bool(mask[:, -1].all()):
            raise ValueError("generate continues from the end of a row: pad prompts on the left")
        if kwargs.get("use_cache") is False:
            raise ValueError("a row's path is kept with its cache: generate needs use_cache")
        sampled = bool(getattr(kwargs.get("generation_config"), "do_sample", False))
        settings = {"do_sample": sampled, "tokenizer": self.tokenizer, **kwargs}
        policy, cache = WholePromptPolicy(self.policy), self.path_model.new_cache()
        with self.path_model.bridged(self._bridges):
            tokens = self.path_model.generate(input_ids, attention_mask, policy=policy, cache=cache, **settings)
        self.cache_bytes = cache.nbytes
        return tokens, policy.paths()

    def _setting(self, name: str, kwargs: Mapping[str, Any]) -> Any:
        """A setting of generation: from the call, else from the call's config, else from the model's own config."""
        configs = (kwargs.get("generation_config"), self.path_model.hf_model.generation_config)
        values = (kwargs.get(name), *(getattr(config, name, None) for config in configs))
        return next((value for value in values if value is not None), None)

    def _completion(self, new: Sequence[int], path: LayerPath, kwargs: Mapping[str, Any]) -> Completion:
        """The completion from a row's new tokens, which end in padding if other rows are longer."""
        assert self.tokenizer is not None
        eos, stop = (_as_list(self._setting(name, kwargs)) for name in ("eos_token_id", "stop_strings"))
        ends = {*eos, self._setting("pad_token_id", kwargs)}
        tokens = list(takewhile(lambda token: token not in ends, new))
        whole = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        text = before_stop(whole, stop)
        ends_here = (
            text == whole and len(tokens) < len(new) and new[len(tokens)] in eos
        )  # and is not padding after a stop
        kept = new[: len(tokens) + ends_here]
        return Completion(text, path, path.depth, len(tokens), tuple(kept))


def _longest_first(
    rows: Sequence[Sequence[int]], batch_size: int, kind: Callable[[int], RowKind]
) -> Iterator[list[int]]:
    """Indices in batches of one kind and similar length; the longest come first: a lack of memory shows early."""
    whole_number(batch_size, "batch_size")
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for _, same in groupby(order, lambda index: kind(len(rows[index]))):
        together = list(same)
        yield from (together[start : start + batch_size] for start in range(0, len(together), batch_size))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
