"""The frozen model with soft gates on its layers, h ← h + g·(f(h) − h), differentiable in the gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathgen.engine.logprobs import target_logprobs
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.padded_rows import prompt_mask, row_inputs
from pathgen.engine.path_model import PathModel
from pathgen.engine.token_rows import Row, Targets
from pathgen.evaluation.batching import Extent, like_lengths
from pathgen.evaluation.evaluator import Prepared

BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Most tokens, padding included, whose activations are held for one backward, by device type."""

Gate = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, hidden [R, T, H] that reach it, prompt_mask [R, T]) -> [R] gates, one a row."""


class GatedModel:
    """Scores continuations with every layer f of a frozen model mixed with its input by a gate g.

    g = 1 gives the layer's own output and g = 0 its input, both exactly; g > 1 goes on beyond the output, in place
    of a second pass. The model's own forward drives embeddings, masks, rotary tables, final norm and head.

    Args:
        model: the wrapped model; its weights take no gradient.
    """

    def __init__(self, model: PathModel):
        self.model = model
        self.masks = find_mask_form(model)

    def batches(self, questions: Sequence[Prepared]) -> Iterator[list[int]]:
        """Indices of questions that are scored together: of like length, and bounded in tokens."""
        limit = BATCH_TOKENS.get(self.model.device.type, BATCH_TOKENS["cuda"])
        extents = [Extent(entry.tokens, len(entry.rows), sum(map(len, entry.rows))) for entry in questions]

        def is_full(batch: list[int], index: int) -> bool:
            return extents[batch[0]].width * sum(extents[i].rows for i in [*batch, index]) > limit

        return like_lengths(extents, sorted(range(len(questions)), key=lambda i: (-extents[i].width, i)), is_full)

    def scores(self, questions: Sequence[Prepared], gate: Gate) -> list[Tensor]:
        """Summed log-likelihood in nats of each continuation, [C] float32 a question, with their graph.

        Args:
            questions: one batch. Each row's scores depend on its own gates only.
            gate: asked once per layer, first layer first.
        """
        rows = [row for prepared in questions for row in prepared.rows]
        states = self._final_states(rows, gate)
        flat = Targets.of(rows)
        at, tokens = (torch.from_numpy(array).to(states.device) for array in (flat.rows, flat.tokens))
        logits = self.model.head(states[at, tokens])  # [N, V], the scored positions of all rows
        predicts, targets = (torch.from_numpy(array).to(logits.device) for array in (flat.predicts, flat.targets))
        logprobs = target_logprobs(logits, predicts, targets)
        counts = [1 + max(int(row.owners.max()) for row in prepared.rows) for prepared in questions]
        firsts = np.cumsum([0, *counts])
        owners = np.concatenate(
            [row.owners + first for prepared, first in zip(questions, firsts, strict=False) for row in prepared.rows]
        )
        sums = logprobs.new_zeros(int(firsts[-1])).index_add(0, torch.from_numpy(owners).to(logprobs.device), logprobs)
        return list(sums.split(counts))

    def _final_states(self, rows: list[Row], gate: Gate) -> Tensor:
        """[R, T, H] what the last layer leaves."""
        model = self.model
        mask = prompt_mask(rows, model.device)
        final: list[Tensor] = []

        def mix(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            weight = gate(index, hidden, mask.to(hidden.device)).to(hidden)[:, None, None]
            mixed = torch.lerp(hidden, model.run_layer(index, hidden, args, kwargs), weight)
            if index == model.num_layers - 1:
                final.append(mixed)
            return model.as_returned(index, mixed)

        with model.mode(mix):
            model.hf_model(**row_inputs(model, self.masks, rows), use_cache=False, logits_to_keep=1)
        return final[0]
