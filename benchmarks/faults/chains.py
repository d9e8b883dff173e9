"""The whole line on one tiny random model of each mechanism: from its check to its export, by the commands themselves.

Each step is ok, refused with its reason, or failed with its error; a step that needs a failed one is left out. The
result is a section of the page of families.

    OMP_NUM_THREADS=1 python -m benchmarks.faults.chains --page docs/families.md
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cluster.program.console import print_json
from pathgen.errors import InputError, one_line

from .families import CHAINS_BELOW, all_types

MECHANISMS = {
    "lfm2": "convolution windows",
    "qwen3_next": "gated delta net",
    "bamba": "Mamba-2 and attention",
    "nemotron_h": "Mamba-2, attention, feed-forward alone",
    "falcon_h1": "attention and Mamba-2 side by side",
    "jamba": "Mamba-1 and attention",
    "kimi_linear": "Kimi delta attention",
    "zamba2": "shared blocks",
    "gemma4_text@shared keys, inputs per layer": "shared keys, inputs per layer",
    "gemma3_text": "sliding windows",
    "llama4_text": "chunked masks",
    "qwen2_5_vl": "M-RoPE, image-text on text alone",
    "bloom": "alibi",
    "llama": "plain attention",
}
"""By type: what its layers have that others do not."""
NEEDS = {
    **dict.fromkeys(("replay", "static", "divergence", "imitate", "gates"), ("search",)),
    "generate": ("imitate",),
    "harness": ("divergence",),
    "export": ("divergence",),
}
OK, REFUSED, FAILED, LEFT_OUT = "ok", "refused", "failed", "–"

Told = tuple[str, str]
"""The state of a step, and what was found in a few words: figures, the reason, the error."""


def chain(group: str, kind: str) -> dict[str, Told]:
    """All steps of a type, in order."""
    from .chain_steps import Chain

    found: dict[str, Told] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, step in Chain(Path(folder), group, kind).steps.items():
            started = time.monotonic()
            if needed := [other for other in NEEDS.get(name, ()) if found[other][0] != OK]:
                found[name] = LEFT_OUT, f"needs {needed[0]}"
                continue
            try:
                found[name] = OK, step()
            except InputError as error:
                found[name] = REFUSED, str(error).replace(f"{folder}/", "")
            except Exception as error:
                found[name] = FAILED, f"{type(error).__name__}: {one_line(error)}".replace(f"{folder}/", "")
            print(f"{kind} {name}: {' '.join(found[name])} {time.monotonic() - started:.0f} s", file=sys.stderr)
    return found


def section(found: Mapping[str, Mapping[str, Told]]) -> str:
    """The section of the page, in Markdown; `found` by type and step."""
    steps = list(next(iter(found.values())))
    lines = [
        CHAINS_BELOW,
        "",
        "The whole line on a tiny random model of each mechanism, by the commands themselves: `pathgen check`, a "
        "search of 20 simulations a question, its replay by `pathgen validate`, static paths by accuracy "
        "and by divergence, routers by imitation and by gates, "
        "`infer generate` with both at batch 1 and 8 (equal answers), lm-evaluation-harness at full depth against its "
        "own model, and `infer export` with skips and with a repeat (equal logits).",
        "",
        "Made by `python -m benchmarks.faults.chains --page docs/families.md`.",
        "",
        f"{len(found.keys() & MECHANISMS.keys())} of {len(MECHANISMS)} mechanisms were run.",
        "",
        f"| type | mechanism | {' | '.join(steps)} |",
        "|---" * (len(steps) + 2) + "|",
    ]
    for kind, told in found.items():
        states = " | ".join(told[step][0] for step in steps)
        lines.append(f"| `{kind}` | {MECHANISMS.get(kind, '')} | {states} |")
    reasons = list(_reasons(found))
    return "\n".join([*lines, *([""] if reasons else []), *reasons]) + "\n"


def _reasons(found: Mapping[str, Mapping[str, Told]]) -> Iterator[str]:
    """One line for each step that is refused or failed."""
    for kind, told in found.items():
        for step, (state, text) in told.items():
            if state in (REFUSED, FAILED):
                yield f"- `{kind}`, {step} {state}: {text}"


def groups(types: Sequence[str]) -> dict[str, str]:
    """The mapping of each type; of one that is in both, the causal one.

    Raises:
        InputError: there is no such type.
    """
    known = {kind: group for group, kind in reversed(all_types())}
    if unknown := [kind for kind in types if kind not in known]:
        raise InputError(f"unknown type {unknown[0]!r}; docs/families.md lists all")
    return {kind: known[kind] for kind in types}


def main(
    types: Annotated[list[str] | None, typer.Argument(help="Types to try [default: one of each mechanism].")] = None,
    page: Annotated[Path | None, typer.Option(help="The page whose section to write.")] = None,
    found_so_far: Annotated[Path | None, typer.Option(help="Answers as JSON lines; those there are kept.")] = None,
) -> None:
    """Run chains, tell each step on stderr, and print the states as JSON."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.ERROR)  # before the commands do it: their stderr is not this one
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    lines = found_so_far.read_text().splitlines() if found_so_far and found_so_far.exists() else []
    known = {one["type"]: one["steps"] for one in map(json.loads, lines)}
    found: dict[str, Mapping[str, Told]] = {}
    for kind, group in groups(types or list(MECHANISMS)).items():
        found[kind] = known.get(kind) or chain(group, kind)
        if found_so_far and kind not in known:
            with found_so_far.open("a") as file:
                file.write(json.dumps({"type": kind, "steps": found[kind]}) + "\n")
    if page is not None:
        page.write_text(page.read_text().partition(CHAINS_BELOW)[0] + section(found))
    print_json({"counts": Counter(state for told in found.values() for state, _ in told.values()), "steps": found})


if __name__ == "__main__":
    typer.run(main)
