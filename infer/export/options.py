"""The options of `infer export`."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Annotated

from cluster.program.options import option
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath
from router.net.bias import Bias, check_bias


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of `infer export`; exactly one of `router`, `static` and `path` says which path.

    Raises:
        InputError: an option is wrong, or does not go with the others.
    """

    out: Annotated[str, option("New folder of the checkpoint.")]
    router: Annotated[str | None, option("Folder or hub id of a router that gives every question one path.")] = None
    static: Annotated[str | None, option("F.json of `pathgen static`: its chosen path.")] = None
    depth: Annotated[int | None, option("With --static: the best path of this depth instead.", min=1)] = None
    path: Annotated[
        str | None, option("One letter per layer, as `pathgen show` prints it: . executed, - skipped, 2 repeated.")
    ] = None
    model: Annotated[
        str | None, option("Alias, hub id, folder or GGUF file of the model [default: that of the router or F.json].")
    ] = None
    bias: Bias = 0.0
    bridges: Annotated[
        str | None, option("Folder of `pathgen bridge`: fold what its maps do into the layers before the skipped ones.")
    ] = None
    text: Annotated[
        tuple[str, ...],
        option("With --bridges: question source or .txt file to fit on beside the built-in text; may repeat."),
    ] = ()
    max_divergence_ratio: Annotated[
        float,
        option("With --bridges: refuse a model this many times as far from full depth as the bridged path.", min=1),
    ] = 1.5

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.router, self.static, self.path)) != 1:
            raise InputError("give one of --router, --static and --path")
        if self.depth is not None and self.static is None:
            raise InputError("--depth goes with --static")
        if self.bias != 0 and self.router is None:
            raise InputError("--bias goes with --router")
        if self.text and self.bridges is None:
            raise InputError("--text goes with --bridges")
        if not isfinite(self.max_divergence_ratio):
            raise InputError("--max-divergence-ratio must be a finite number")
        if self.path is not None and self.model is None:
            raise InputError("--path needs --model")
        check_bias(self.bias)
        if self.path is not None:
            try:
                LayerPath.parse(self.path)
            except ValueError as error:
                raise InputError(f"--path: {error}") from error
