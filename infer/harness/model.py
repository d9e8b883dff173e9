"""The routed model for lm-evaluation-harness. Importing this file registers the model name `routed`."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from tqdm import tqdm

from pathgen.errors import InputError
from pathgen.models.devices import default_device, default_dtype
from pathgen.paths.layer_path import LayerPath
from router.net.bias import check_bias

from ..routed.routed_model import RoutedModel
from ..routed.scoring import Tokens, WholePromptPolicy, continuation_logits, continuation_logprobs

logger = logging.getLogger(__name__)

Request = tuple[Any, list[int], list[int]]
"""The harness's key of a request, the tokens of its context, and the tokens of the continuation to score."""


@register_model("routed")
class RoutedLM(HFLM):
    """A frozen model along the paths that a router decides from each request's context only.

    Tokenisation, chat templates, stop strings and rolling windows are those of the harness's Hugging Face models.

    Args:
        pretrained: alias, hub id or local folder of the frozen model.
        router: folder or hub id of a router trained for it.
        batch_size: rows per forward, or `auto` for the most that fit in memory.
        max_batch_size: the first size that `auto` tries.
        dtype: of the weights; None: float32 on the CPU, bfloat16 on CUDA.
        device: a torch device; None: CUDA if there is a GPU, else the CPU.
        max_length: most tokens of context and continuation; None: the model's context.
        bias: added to SKIP logits and subtracted from REPEAT logits; 0 is as trained.

    Attributes:
        paths_taken: number of rows by path.

    Raises:
        InputError: an argument is unknown or unusable, or the model or router does not exist.
        ArtefactError: the router is damaged, or of another model.
    """

    def __init__(
        self,
        pretrained: str,
        router: str,
        *,
        batch_size: int | str = 1,
        max_batch_size: int = 64,
        dtype: str | None = None,
        device: str | None = None,
        max_length: int | None = None,
        bias: float = 0.0,
        **unknown: Any,
    ):
        if unknown:
            raise InputError(
                f"model `routed` has no argument {', '.join(unknown)}; it takes pretrained, router, batch_size, "
                "max_batch_size, dtype, device, max_length and bias"
            )
        if not re.fullmatch(r"auto|0*[1-9]\d*", str(batch_size)):
            raise InputError(f"--batch_size must be a number from 1 on, or auto; got {batch_size}")
        check_bias(bias)
        device = device or default_device()
        routed = RoutedModel.from_pretrained(
            pretrained, router, dtype=dtype or default_dtype(device), device=device, bias=bias
        )
        self.path_model, self.policy, self.router_config = routed.path_model, routed.policy, routed.router.config
        self.path_model.use_bridges(routed.router.bridges)
        self.paths_taken: Counter[LayerPath] = Counter()
        super().__init__(
            pretrained=self.path_model.hf_model,
            tokenizer=self.path_model.tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_batch_size=max_batch_size,
            max_length=max_length,
        )

    def get_model_info(self) -> dict[str, Any]:
        """Facts for the harness's result file, with the depth of the rows."""
        config, rows = self.router_config, max(1, self.paths_taken.total())
        return {
            **super().get_model_info(),
            "router_method": config.method,
            "num_layers": config.num_layers,
            "mean_depth": sum(path.depth * count for path, count in self.paths_taken.items()) / rows,
            "off_full_share": sum(count for path, count in self.paths_taken.items() if path.edits) / rows,
        }

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """[B, T, V] logits of whole prompts; the harness calls it to try batch sizes."""
        return self.path_model.logits(inps, policy=self.policy)

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        """[B, T + new] tokens; each row's path is decided at prefill and recorded."""
        recorded, cache = WholePromptPolicy(self.policy), self.path_model.new_cache()
        with self.path_model.routed(recorded, kwargs["attention_mask"]):
            tokens = super()._model_generate(context, max_length, stop, past_key_values=cache, **kwargs)
        self.paths_taken.update(recorded.paths())
        return tokens

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Summed log-likelihood of each continuation, and whether greedy decoding would give it.

        Requests that differ only in the continuation's last token are one row, so the letters of a choice take one
        forward. Different contexts are different rows, even if context and continuation together are equal.

        Raises:
            InputError: a continuation leaves no room for its context.
        """
        by_row: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
        for index, (_, context, continuation) in enumerate(requests):
            by_row[tuple(context), tuple(continuation[:-1])].append(index)
        rows = sorted(by_row, key=lambda row: -len(row[0]) - len(row[1]))
        if (longest := 1 + max((len(forced) for _, forced in rows), default=0)) > self.max_length:
            raise InputError(
                f"a continuation of {longest} tokens does not fit: the model takes {self.max_length} tokens"
            )
        if cut := sum(len(context) + len(forced) > self.max_length for context, forced in rows):
            logger.warning(
                "%d of %d contexts lose their start: the model takes %d tokens", cut, len(rows), self.max_length
            )
        size = override_bs or self.batch_size
        if size == "auto":
            size = self._detect_batch_size([requests[by_row[row][0]] for row in rows])
        answers: dict[int, tuple[float, bool]] = {}
        with tqdm(total=len(requests), disable=disable_tqdm, desc="routed log-likelihoods") as bar:
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                for row, logits in zip(batch, self._logits(batch), strict=True):
                    for index in by_row[row]:
                        key, _, continuation = requests[index]
                        logprobs, greedy = continuation_logprobs(logits, continuation)
                        answers[index] = sum(logprobs), greedy
                        if key is not None:  # None: a window of a rolling request; the harness stores the whole
                            self.cache_hook.add_partial("loglikelihood", key, answers[index])
                        bar.update()
        return [answers[index] for index in range(len(requests))]

    def _logits(self, rows: Sequence[tuple[Tokens, Tokens]]) -> list[Tensor]:
        """Logits of rows as for `continuation_logits`; rows that are too long lose the start of their context."""
        recorded = WholePromptPolicy(self.policy)
        cut = [(context[-(self.max_length - len(forced)) :], forced) for context, forced in rows]
        logits = continuation_logits(self.path_model, recorded, cut)
        self.paths_taken.update(recorded.paths())
        return logits
