"""Which families of the installed transformers run along paths: each as a tiny random model, against a plain loop.

Every type of the causal and image-text mappings is built with random weights, wrapped, and compared: mixed paths
padded left and right, cascades, cached greedy decoding, and the search's executor in plain and packed rows. Each runs
in a child process with a time limit. The result is the page of families.

    OMP_NUM_THREADS=1 python -m benchmarks.faults.families --out docs/families.md
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.program.console import print_json
from pathgen.errors import one_line

SECONDS = 240.0
"""Most seconds of one family."""
MORE_THAN_TEXT = ("pixel_values", "required positional argument")
"""In the errors of forwards that do not run on text alone: such a model builds, and is refused when it is wrapped."""
CHAINS_BELOW = "## Whole chains"
"""The heading of the page's last section, which `benchmarks.faults.chains` writes."""


def check(group: str, kind: str) -> dict[str, Any]:
    """What is found of one type: `builds`, `state` (exact, inexact, refused, crashes, no model), `gap`, `told`."""
    import torch

    from pathgen.engine.supported import UnsupportedModelError

    from .family_check import largest_gap

    found: dict[str, Any] = {"group": group, "type": kind, "state": "no model", "gap": None, "told": ""}
    stock = None
    try:
        with torch.no_grad():
            stock = tiny_model(group, kind)
            if not stock.config.is_encoder_decoder:
                stock(input_ids=torch.tensor([[5, 9, 11, 3, 8, 7]]), use_cache=False)
    except Exception as error:
        if stock is None or not any(words in str(error) for words in MORE_THAN_TEXT):
            return {**found, "told": f"no tiny model of it: {one_line(error)[:120]}"}
    try:
        with torch.no_grad():
            gap, model = largest_gap(stock)
    except UnsupportedModelError as error:
        return {**found, "state": "refused", "told": str(error).partition(": ")[2]}
    except Exception as error:
        return {**found, "state": "crashes", "told": f"{type(error).__name__}: {one_line(error)[:150]}"}
    from .family_check import CLOSE

    told = model.restrictions.told()
    if model.pinned_layers:
        told.append("layers whose keys and values others read always execute once")
    return {**found, "state": "exact" if gap <= CLOSE else "inexact", "gap": gap, "told": "; ".join(told)}


def tiny_model(group: str, kind: str, **changes: Any) -> Any:
    """A tiny random model of a type, with changes of its text model's config."""
    import transformers

    from .family_check import shaken
    from .tiny_config import tiny_config

    config = tiny_config(kind)
    model_class = getattr(transformers, class_name(group, kind))
    wanted = getattr(model_class, "config_class", None)
    if wanted is not None and not isinstance(config, wanted):
        parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
        config = next((part for part in parts if isinstance(part, wanted)), config)
    for name, value in changes.items():
        setattr(config.get_text_config(), name, value)
    return shaken(model_class(config))


def class_name(group: str, kind: str) -> str:
    """The name of the class of a type."""
    from transformers.models.auto import modeling_auto as auto

    names = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if group == "image-text":
        names = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    name = names[kind.partition("@")[0]]
    return str(name[0] if isinstance(name, (tuple, list)) else name)


def all_types() -> list[tuple[str, str]]:
    """(mapping, type) of all, variants behind their type."""
    from transformers.models.auto import modeling_auto as auto

    from .tiny_settings import CHANGES

    causal = [*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *(name for name in CHANGES if "@" in name)]
    images = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return [("causal", kind) for kind in sorted(causal)] + [("image-text", kind) for kind in sorted(images)]


def in_child(group: str, kind: str) -> dict[str, Any]:
    """`check` in a forked process: what it breaks, or how long it takes, concerns no other."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        try:
            os.write(writer, json.dumps(check(group, kind)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    failed = {"group": group, "type": kind, "state": "crashes", "gap": None}
    until = time.monotonic() + SECONDS
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return {**failed, "told": f"no answer within {SECONDS:.0f} s"}
        time.sleep(0.01)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    return json.loads(answer) if answer else {**failed, "told": "its process died"}


def page(found: list[dict[str, Any]], version: str) -> str:
    """The page of families, in Markdown."""
    lines = [
        "# Model families",
        "",
        f"All causal and image-text types of transformers {version}, each as a tiny random model, on text alone: mixed "
        "paths padded left and right, cascades, cached greedy decoding, the search in plain and packed rows. Each is "
        "compared with the stock model, one unpadded row at a time. *Exact* is a gap of at most 1e-4 of the largest "
        "logit. The same is probed on a few dozen tokens whenever a model is wrapped; `pathgen check FOLDER` tells "
        "what was found for a model at hand.",
        "",
        "Made by `python -m benchmarks.faults.families --out docs/families.md`.",
        "",
        f"{len(found)} of {len(all_types())} types were tried.",
        "",
        "| mapping | types | exact | inexact | crashes | refused | no tiny model |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(one["group"] for one in found):
        counts = Counter(one["state"] for one in found if one["group"] == group)
        numbers = [counts[name] for name in ("exact", "inexact", "crashes", "refused", "no model")]
        lines.append(f"| {group} | {counts.total()} | {' | '.join(map(str, numbers))} |")
    for group in dict.fromkeys(one["group"] for one in found):
        lines += ["", f"## {group}", "", "| type | state | restrictions, or the reason |", "|---|---|---|"]
        lines += [
            f"| `{one['type']}` | {one['state']} | {one['told'].replace('|', '/')} |"
            for one in found
            if one["group"] == group
        ]
    return "\n".join(lines) + "\n"


def main(
    types: Annotated[list[str] | None, typer.Argument(help="Types to try [default: all].")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
    found_so_far: Annotated[Path | None, typer.Option(help="Answers as JSON lines; those there are kept.")] = None,
) -> None:
    """Try families, tell each on stderr, and print a summary as JSON."""
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    started = time.monotonic()
    lines = found_so_far.read_text().splitlines() if found_so_far and found_so_far.exists() else []
    known = {(one["group"], one["type"]): one for one in map(json.loads, lines)}
    found = []
    check("causal", "llama")  # imports what every child then has
    for group, kind in all_types():
        if types and kind not in types and group not in types:
            continue
        if (group, kind) in known:
            found.append(known[group, kind])
            continue
        one = in_child(group, kind)
        found.append(one)
        if found_so_far:
            with found_so_far.open("a") as file:
                file.write(json.dumps(one) + "\n")
        gap = "" if one["gap"] is None else f" {one['gap']:.1e}"
        print(f"{group} {kind}: {one['state']}{gap} {one['told']}", file=sys.stderr, flush=True)
    if out is not None:
        _, heading, chains = (out.read_text() if out.exists() else "").partition(CHAINS_BELOW)
        out.write_text(page(found, transformers.__version__) + (f"\n{heading}{chains}" if heading else ""))
    counts = Counter(f"{one['group']} {one['state']}" for one in found)
    print_json({"counts": dict(sorted(counts.items())), "seconds": round(time.monotonic() - started, 1)})


if __name__ == "__main__":
    typer.run(main)
