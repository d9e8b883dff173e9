"""The model card of a router: its settings and figures."""

from __future__ import annotations

from ..net.router import Router

_TEXT = """\
---
library_name: layerpaths
tags:
- layerpaths
- adaptive-depth
---

# Layer router for {base_model}

Chooses, for each prompt, which of the {num_layers} layers of {base_model} are skipped, run once or run twice.
The model itself is not changed.

```python
from infer import RoutedModel

RoutedModel.from_pretrained("{base_model}", router="FOLDER").complete(["…"])
```

| | |
|---|---|
{rows}
"""


def card_text(router: Router) -> str:
    """Content of README.md, with front matter for the hub."""
    config = router.config
    head = config.head if config.head == "none" else f"{config.head}, width {config.width}, scale {config.scale:g}"
    facts = {
        "base model's fingerprint": config.base_fingerprint,
        "tasks": ", ".join(config.tasks),
        "chat template": "yes" if config.chat else "no",
        "method": config.method,
        "labels": config.labels or "none",
        "actions": ", ".join(config.actions),
        "head": head,
        "reads": f"{config.pooling.kind}, {config.pooling.windows} per prompt" if config.reads_states else "nothing",
        "falls back to full depth": _fall_back(config.fall_back_below),
        "bridges": config.bridges or "none",
        "weights": f"{router.num_parameters:,}",
        "bias": f"{config.bias:g}",
        **{name: value for name, value in config.notes.items() if isinstance(value, str | int | float)},
    }
    escaped = {name: fact_text(value).replace("|", "\\|") for name, value in facts.items()}
    rows = "\n".join(f"| {name} | {text} |" for name, text in escaped.items())
    return _TEXT.format(base_model=config.base_model, num_layers=config.num_layers, rows=rows)


def _fall_back(gap: float | None) -> str:
    return "never" if gap is None else f"where the next token leads by less than {gap:g} nats"


def fact_text(value: object) -> str:
    """A fact or figure for a reader: numbers with a fraction have four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
