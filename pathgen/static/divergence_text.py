"""Prints the result of `pathgen static --target divergence`."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.table import Table

from ..bridges.folder import folder_info
from .divergence_paths import SHALLOW_AGREEMENT, DivergencePaths
from .options import StaticOptions

BAR_CELLS = 24
TABLE_CELLS = 90
"""Columns of the table, the bars included, without the paths."""
EIGHTHS = " ▏▎▍▌▋▊▉"


def divergence_text(found: DivergencePaths, options: StaticOptions) -> None:
    """Print the frontier, a bar for each depth's divergence, and the next command."""
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_CELLS + found.num_layers)  # a narrow terminal wraps; nothing is cut
    with_bridges = f", bridges {found.bridges}" if found.bridges else ""
    accuracy = "" if found.full.accuracy is None else f"; full depth {found.full.accuracy:.1%}"
    console.print(
        f"{found.model_id} on {', '.join(found.tasks)}{with_bridges}: searched on {len(found.searched_on):,} "
        f"questions, measured on {found.questions:,} others{accuracy}; {found.forward_tokens:,.0f} forward tokens",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("depth", "FLOPs", "divergence", "agreement", *(("accuracy",) if accuracy else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("path (. run, - skip)", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max((entry.divergence for entry in found.frontier), default=0.0)
    for entry in found.frontier:
        table.add_row(
            str(entry.depth),
            f"{entry.flops_ratio:.0%}",
            f"{entry.divergence:.3f} ± {entry.divergence_se:.3f}",
            f"{entry.agreement:.1%} ± {entry.agreement_se:.1%}",
            *([] if entry.accuracy is None else [f"{entry.accuracy:.1%}"]),
            f"{entry.path} ",
            bar(entry.divergence, most),
        )
    console.print(table)
    console.print("divergence: KL(full ‖ path), nats a position; on questions held out from the search, ± its error")
    shallow = found.shallow
    what = "the full path" if shallow == found.full else f"depth {shallow.depth}"
    console.print(f"shallow: {what} (the shallowest with an agreement of {SHALLOW_AGREEMENT:.0%})", soft_wrap=True)
    depth = shallow.depth if shallow != found.full or not found.frontier else found.frontier[-1].depth
    out, bridges = shlex.quote(options.out), options.bridges_flag(of_runs=found.bridges is not None)
    if options.bridges and folder_info(options.bridges).along is None:
        refit = f"pathgen bridge --model {shlex.quote(found.model_id)} --along {out} --depth {depth}{_text(options)}"
        console.print(
            f"next: {refit} --out {shlex.quote(options.bridges)}-{depth}  (refits them along this path)", soft_wrap=True
        )
    console.print(f"next: infer export --static {out} --depth {depth}{bridges} --out MODEL", soft_wrap=True)


def _text(options: StaticOptions) -> str:
    """The options of `pathgen bridge` that give the text of this command."""
    if not options.text:
        return " --text TEXT"
    sources = "".join(f" --text {shlex.quote(source)}" for source in options.text)
    return f"{sources}{f' --task {options.task}' if options.task else ''}{' --chat' if options.chat else ''}"


def bar(value: float, most: float) -> str:
    """A bar of at most BAR_CELLS cells, in steps of an eighth."""
    eighths = round(8 * BAR_CELLS * value / most) if most else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
