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
from pathgen.engine.token_rows import Row, scored_positions
from pathgen.evaluation.batching import Extent, like_lengths
from pathgen.evaluation.evaluator import Prepared

BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Most tokens, padding included, whose activations are held for one backward, by device type."""

Gate = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, its input [R, T, H], prompt_mask [R, T]) -> [R] gates, one per row."""


class GatedModel:
    """Scores continuations with every layer f of a frozen model mixed with its input by a gate g.

    g = 1 gives the layer's own output and g = 0 its input, both exactly; g > 1 extrapolates beyond the output, in place
    of a second pass. The model's own forward computes embeddings, masks, rotary tables, final norm and head.
    """

    def __init__(self, model: PathModel):
        self.model = model
        self.masks = find_mask_form(model)

    def batches(self, questions: Sequence[Prepared]) -> Iterator[list[int]]:
        """Indices of questions that are scored together: of similar length, and bounded in tokens."""
        limit = BATCH_TOKENS.get(self.model.device.type, BATCH_TOKENS["cuda"])
        kind = self.model.restrictions.kind
        extents = [
            Extent(entry.tokens, len(entry.rows), sum(map(len, entry.rows)), kind(entry.tokens)) for entry in questions
        ]

        def is_full(batch: list[int], index: int) -> bool:
            return extents[batch[0]].width * sum(extents[i].rows for i in [*batch, index]) > limit

        return like_lengths(extents, sorted(range(len(questions)), key=lambda i: (-extents[i].width, i)), is_full)

    def scores(self, questions: Sequence[Prepared], gate: Gate) -> list[Tensor]:
        """Summed log-likelihood in nats of each continuation of one batch, [C] float32 per question, with its graph.

        Each row's scores depend on its own gates only. The gate is called once per layer, first layer first.
        """
        rows = [row for prepared in questions for row in prepared.rows]
        states = self._final_states(rows, gate)
        at, tokens, predicts, targets = (torch.from_numpy(found) for found in scored_positions(rows))
        logits = self.model.head(states[at.to(states.device), tokens.to(states.device)])  # [N, V]
        logprobs = target_logprobs(logits, predicts.to(logits.device), targets.to(logits.device))
        counts = [1 + max(int(row.owners.max()) for row in prepared.rows) for prepared in questions]
        firsts = np.cumsum([0, *counts])
        owners = np.concatenate(
            [row.owners + first for prepared, first in zip(questions, firsts, strict=False) for row in prepared.rows]
        )
        sums = logprobs.new_zeros(int(firsts[-1])).index_add(0, torch.from_numpy(owners).to(logprobs.device), logprobs)
        return list(sums.split(counts))

    def _final_states(self, rows: list[Row], gate: Gate) -> Tensor:
        """[R, T, H] output of the last layer."""
        model = self.model
        mask = prompt_mask(rows, model.device)

        def mix(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            weight = gate(index, hidden, mask.to(hidden.device)).to(hidden)[:, None, None]
            mixed = torch.lerp(hidden, model.run_layer(index, hidden, args, kwargs), weight)
            return model.as_returned(index, mixed)

        with model.mode(mix):
            return model.run_body(**row_inputs(model, self.masks, rows), use_cache=False)
