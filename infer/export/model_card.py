"""The model card of an exported path."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from .chosen_path import ChosenPath
from .folded_bridges import FoldedBridges
from .parity import TEXT, Parity, Reference

_TEXT = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- layerpaths
- adaptive-depth
---

# {model} along one layer path

An ordinary checkpoint with {depth} layers. It holds the layers that one path through the {num_layers} layers of {model}
runs: skipped layers are left out, repeated layers are stored twice. {weights}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```

`lm-eval run --model hf --model_args pretrained=FOLDER --tasks TASK` measures it.
{warning}
| | |
|---|---|
{rows}

The base model's own licence and terms hold for these weights too.
"""
_WARNING = """
Its layers are of several kinds, which `layer_types` (or another list) in config.json names one by one. A program that
computes the kinds from the layers' numbers instead, as older ones do, runs this model wrongly.
"""

_FOLDED = """\
What the skipped layers did is
folded into the output matrix of the MLP before them: it changed by the least-squares solution, over text, for what
affine maps fitted in the place of the skipped layers (bridges) give. No other weight was changed.\
"""


def card_text(
    chosen: ChosenPath,
    fingerprint: str,
    reference: Reference,
    parity: Parity,
    *,
    mixed: bool,
    folded: FoldedBridges | None = None,
) -> str:
    """Content of README.md, with front matter for the hub.

    Args:
        chosen: the path and its origin.
        fingerprint: of the base model.
        reference: the path on the built-in text.
        parity: the folder on it.
        mixed: whether the layers are of several kinds.
        folded: the bridges that were folded into it, if any.
    """
    path = chosen.path
    facts: dict[str, Any] = {
        "base model": chosen.model,
        "base model's fingerprint": fingerprint,
        "path (`.` executed, `-` skipped, `2` repeated)": f"`{path}`",
        "path as actions": f"`{list(path)}`",
        "layers of the base model, in the order they run": f"`{list(path.executions)}`",
        "depth": f"{path.depth} of {len(path)}",
        "weights": f"{parity.parameters:,}",
        "chosen": chosen.origin,
        "what it is worth": chosen.worth,
        "divergence from full depth": f"{reference.divergence:.3g} nats per position, on {len(TEXT)} short texts",
        "checked": (
            f"transformers {version('transformers')}, float32: logits differ by at most {parity.max_logit_gap:.1g} "
            f"from the base model along the path{' with the folded matrices' if folded else ''}"
        ),
    }
    if folded is not None:
        facts |= folded.facts()
    rows = "\n".join(f"| {name} | {str(fact).replace('|', chr(92) + '|')} |" for name, fact in facts.items())
    return _TEXT.format(
        model=chosen.model,
        depth=path.depth,
        num_layers=len(path),
        rows=rows,
        warning=_WARNING if mixed else "",
        weights=_FOLDED if folded else "No weight was changed.",
    )
