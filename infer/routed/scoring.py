"""Log-likelihoods of continuations, and the policy that decides a path on the whole prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pathgen.engine.logprobs import target_logprobs
from pathgen.engine.padded_rows import masked
from pathgen.engine.path_model import PathModel, forward_inputs
from pathgen.engine.policies import LayerPolicy, RecordedPolicy
from pathgen.paths.layer_path import LayerPath

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Score:
    """Log-likelihood of a continuation along the path that its prompt decides.

    Attributes:
        logprob: sum over the tokens, in nats.
        token_logprobs: one per token, in nats.
        greedy: whether greedy decoding would give this continuation.
    """

    logprob: float
    token_logprobs: tuple[float, ...]
    greedy: bool
    path: LayerPath


class WholePromptPolicy(RecordedPolicy):
    """Records the decisions of another policy, and checks that each one sees the whole prompt."""

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the actions of the recorded policy.

        Raises:
            ValueError: the forward has another number of tokens than the prompt.
        """
        if hidden.shape[1] != prompt_mask.shape[1]:
            raise ValueError(
                f"a path is decided on the whole prompt of {prompt_mask.shape[1]} tokens, and kept; "
                f"this forward has {hidden.shape[1]}: no chunked prefill, no assistant"
            )
        return super().actions(layer, hidden, prompt_mask)


@torch.inference_mode()
def continuation_logits(model: PathModel, policy: LayerPolicy, rows: Sequence[tuple[Tokens, Tokens]]) -> list[Tensor]:
    """For each (prompt, forced tokens after it) the float32 logits [n, V] of its n = forced + 1 next tokens.

    One forward, in which the policy sees only the prompts, and the head runs on the scored positions alone.
    """
    ids, mask = masked([[*prompt, *forced] for prompt, forced in rows], model.device)
    prompt_end = torch.tensor([[len(prompt)] for prompt, _ in rows], device=model.device)
    with model.routed(policy, mask * (torch.arange(ids.shape[1], device=model.device) < prompt_end)):
        states = model.run_body(**forward_inputs(ids, mask))
    counts = [1 + len(forced) for _, forced in rows]
    ends = [len(prompt) + len(forced) for prompt, forced in rows]
    scored = torch.cat([row[end - count : end] for row, end, count in zip(states, ends, counts, strict=True)])
    return list(model.head(scored).split(counts))


def continuation_logprobs(logits: Tensor, continuation: Tokens) -> tuple[list[float], bool]:
    """Log-probability in nats of each of N tokens, given their logits [N, V], and whether greedy decoding gives all."""
    tokens = torch.tensor(continuation, device=logits.device)
    logprobs = target_logprobs(logits, torch.arange(len(tokens), device=logits.device), tokens)
    return logprobs.tolist(), bool((logits.argmax(-1) == tokens).all())
