"""Bridges of one path side by side on unseen text, and on what full depth itself generates.

    python -m benchmarks.bridges.unseen_text --model M --path ....--.. --text notes=notes.txt --prompts Q
        --bridges closed=DIR --bridges refit=DIR2 --bridges distilled=DIR3

Divergence from full depth and equal most probable tokens, text by text; differences from the first bridges are paired.
Along full depth's own greedy text, the tokens before the first difference are those that the path would generate alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.lab.entries import named
from benchmarks.lab.measurement import mean, run_script
from benchmarks.lab.models import Model
from cluster.program.progress import counted
from infer.routed.prompts import encode_prompts
from pathgen.bridges.folder import load_bridges
from pathgen.bridges.maps import Bridges
from pathgen.engine.logprobs import divergence
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.fitting.text import Piece, open_source
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.tasks import find_task
from pathgen.report.figures import figure_table, interval

GENERATED = "generated"


@dataclass(frozen=True, slots=True)
class Along:
    """One text along the path: mean divergence in nats, share of equal tokens, and equal tokens before a difference."""

    divergence: float
    agreement: float
    lead: int


def main(
    model: Model,
    path: Annotated[str, typer.Option(help="The path.")],
    bridges: Annotated[list[str], typer.Option(help="NAME=FOLDER of `pathgen bridge`; may repeat.")],
    text: Annotated[list[str], typer.Option(help="NAME=SOURCE as --text of `pathgen bridge`; may repeat.")],
    prompts: Annotated[str | None, typer.Option(help="Questions, asked in a chat, that full depth answers.")] = None,
    texts: Annotated[int, typer.Option(help="Texts of each source, and prompts.")] = 30,
    new_tokens: Annotated[int, typer.Option(help="Longest generated text.")] = 64,
    task: Annotated[str, typer.Option(help="How questions are asked.")] = "arc",
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Compare, and print a table for each source."""
    torch.set_num_threads(threads)
    folder = resolve_model(model)
    path_model, asked_as = PathModel.from_pretrained(str(folder)), find_task(task)
    ways = {name: load_bridges(place, fingerprint(folder)) for name, place in named(bridges).items()}
    pieces: dict[str, list[tuple[Piece, int]]] = {}  # by source: texts, and where what is compared begins
    for name, source in named(text).items():
        stream = open_source(source, asked_as, chat=False, seed=1)(path_model)
        pieces[name] = [(piece, 1) for piece, _ in zip(stream, range(texts), strict=False) if len(piece) > 1]
    if prompts is not None:
        pieces[GENERATED] = list(_generated(path_model, prompts, texts, new_tokens))
    for name, some in pieces.items():
        with counted(name, len(some), quiet=False) as on_done:
            found: dict[str, list[Along]] = {way: [] for way in ways}
            for piece, start in some:
                for way, figures in compared(path_model, piece, start, LayerPath.parse(path), ways).items():
                    found[way].append(figures)
                on_done(1)
        Console().print(text_table(name, found, sum(len(piece) - start for piece, start in some)))


@torch.inference_mode()
def compared(
    model: PathModel, piece: Piece, start: int, path: LayerPath, ways: Mapping[str, Bridges]
) -> dict[str, Along]:
    """How each way predicts a text's tokens from `start` on, against full depth."""
    ids = torch.tensor([piece], device=model.device)

    def predicted(path: LayerPath) -> Tensor:
        logits = model.logits(ids, policy=FixedPaths([path]))[0, start - 1 : -1]
        return logits.float().log_softmax(-1)

    base, found = predicted(LayerPath.full(model.num_layers)), {}
    for name, bridges in ways.items():
        with model.bridged(bridges):
            along = predicted(path)
        same = (along.argmax(-1) == base.argmax(-1)).tolist()
        nats = float(divergence(base, along).mean())
        found[name] = Along(nats, float(np.mean(same)), sum(1 for _ in takewhile(bool, same)))
    return found


def text_table(source: str, found: Mapping[str, Sequence[Along]], tokens: int, seed: int = 0) -> Table:
    """One row for each way, with its paired differences from the first; 95 % intervals over texts."""
    first = next(iter(found.values()))
    head = f"{source}: {len(first)} texts, {tokens:,} tokens"
    columns = ("nats", "against the first", "equal tokens", "against the first", "before a difference")
    table = figure_table(head, *columns, no_wrap=True)
    for name, figures in found.items():
        cells = []
        for field in ("divergence", "agreement"):
            values, of_first = (np.array([getattr(one, field) for one in some]) for some in (figures, first))
            change = mean(values - of_first, seed)
            cells += [f"{values.mean():.3f}", f"{_signed(change['value'])} {interval(tuple(change['ci95']), _signed)}"]
        lead = f"{np.mean([one.lead for one in figures]):.1f}" if source == GENERATED else ""
        table.add_row(name, *cells, lead)
    return table


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _generated(model: PathModel, source: str, count: int, new_tokens: int) -> Iterator[tuple[Piece, int]]:
    """Prompts with what full depth writes after them, greedily, and where that begins."""
    assert model.tokenizer is not None
    asked = load_questions(source, needs="reference", limit=count)
    full = FixedPaths([LayerPath.full(model.num_layers)])
    for ids in encode_prompts(model.tokenizer, [question.prompt for question in asked], chat=True):
        row = model.generate(torch.tensor([ids], device=model.device), policy=full, max_new_tokens=new_tokens)
        yield tuple(row[0].tolist()), len(ids)


if __name__ == "__main__":
    run_script(main)
