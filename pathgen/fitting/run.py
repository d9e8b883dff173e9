"""`pathgen bridge`: text, one pass of the frozen model, a linear solve per layer, and a check on held-out text."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.program.progress import ProgressView

from ..actors.options import ActorOptions
from ..bridges.folder import save_bridges
from ..bridges.info import BridgesInfo, Distillation
from ..bridges.maps import Bridges
from ..errors import InputError, PathgenError
from ..identity import lasting, used_by
from ..models.devices import default_device, default_dtype
from ..models.facts import fingerprint, num_layers
from ..models.reading import load_config
from ..models.resolving import resolve_model
from ..paths.layer_path import LayerPath
from ..questions.tasks import Task, find_task
from ..static.static_paths import load_static
from .options import BridgeOptions
from .result import BridgeResult

if TYPE_CHECKING:
    from .text import Texts

TOKENS_PER_RANK = 4
"""A fit needs at least so many tokens for each dimension of its maps."""


class BridgeFit:
    """One call of `pathgen bridge`; `tell` shows one line. The constructor checks all that needs no loaded model.

    Raises:
        InputError: the model, a source of text, the path or the rank cannot be used, or --out exists.
        ArtefactError: the static paths are of another model.
    """

    def __init__(self, options: BridgeOptions, tell: Callable[[str], None]):
        from .text import asks_in_chat, open_source

        self.options, self.tell = options, tell
        self.out = Path(options.out)
        if self.out.exists():
            raise InputError(f"--out {options.out} exists; give a new folder")
        for place in self.out.absolute().parents:
            if place.exists() and not place.is_dir():
                raise InputError(f"--out {options.out}: {place} is a file; give a folder")
        self.task: Task = find_task(options.task)
        self.folder = resolve_model(options.model)
        in_chat = options.chat or any(map(asks_in_chat, options.sources))
        self.fingerprint = used_by(fingerprint(self.folder), chat=in_chat, generates=False)
        self.layers = num_layers(self.folder)
        self.width = int(load_config(self.folder).get_text_config().hidden_size)
        if options.rank is not None and options.rank > self.width:
            raise InputError(f"--rank {options.rank} is above the width of {options.model}, {self.width}: give full")
        self.device = options.device or default_device()
        self._check_room()
        self.path = self._path()
        self.streams = [
            open_source(source, self.task, chat=options.chat, seed=options.seed) for source in options.sources
        ]

    def run(self) -> BridgeResult:
        """Fit, check on held-out text, and write the folder.

        Raises:
            InputError: too little text for the rank.
            PathgenError: a state is not finite, or the file system refuses.
        """
        from ..engine.path_model import PathModel
        from .along import explained_along, refit
        from .distill import distill
        from .fit import PartialFit
        from .shares import FoundModel
        from .states import batches_of, explained, groups_of
        from .text import draw
        from .text_pass import sum_text

        started, options = time.perf_counter(), self.options
        dtype = options.dtype or default_dtype(self.device)
        self._set_threads()
        model = PathModel.from_pretrained(options.model, dtype=dtype, device=self.device)
        partial = PartialFit(self.out.with_name(f".{self.out.name}.fitting"), self._settings(dtype))

        def new_texts() -> Texts:
            if not options.quiet:
                self.tell(f"text: {', '.join(options.sources)}")
            return draw([stream(model) for stream in self.streams], options.tokens)

        texts = partial.texts(new_texts)
        if (told := self._too_few(texts)) is not None:
            partial.remove()
            raise InputError(told)
        actors = ActorOptions(
            actors=options.actors, threads_per_actor=options.threads, dtype=dtype, quiet=options.quiet
        )
        found = FoundModel(options.model, self.fingerprint, self.folder, dtype)
        sums, tokens_per_second = sum_text(model, groups_of(model, texts.fit), partial, actors, found)
        maps = [one.solve(options.rank, options.ridge) for one in sums]
        r2 = explained(model, groups_of(model, texts.held_out), maps)
        distilled: Distillation | None = None
        if self.path is not None:
            batches = batches_of(model, texts.fit)
            with ProgressView("refitting along the path", self.layers, words="starting", quiet=options.quiet) as view:
                refitted = refit(
                    model, batches, self.path, options.rank, options.ridge, lambda layer: view.show(layer + 1, "layers")
                )
            if options.distill_steps is not None:
                steps, seed = options.distill_steps, options.seed
                refitted, distilled = distill(model, texts, self.path, refitted, steps, seed, quiet=options.quiet)
            for layer, bridge in refitted.items():
                maps[layer] = bridge
            for layer, share in explained_along(model, batches_of(model, texts.held_out), self.path, refitted).items():
                r2[layer] = share
        bridges = Bridges(tuple(maps))
        info = BridgesInfo(
            model_id=options.model,
            fingerprint=self.fingerprint,
            num_layers=self.layers,
            width=self.width,
            rank=options.rank if options.rank != self.width else None,
            ridge=options.ridge,
            text=options.sources,
            tokens=texts.tokens,
            r2=tuple(r2),
            digest="",
            along=None if self.path is None else str(self.path),
            distilled=distilled,
        )
        try:
            save_bridges(bridges, info, self.out)
        except OSError as error:
            raise PathgenError(f"cannot write {self.out}: {error.strerror or error}") from error
        partial.remove()
        return BridgeResult(
            out=options.out,
            model=options.model,
            num_layers=self.layers,
            tokens=texts.tokens,
            rank=info.rank,
            r2=info.r2,
            seconds=time.perf_counter() - started,
            parameters=bridges.parameters,
            parameter_share=bridges.parameters / model.hf_model.num_parameters(),
            actors=options.actors,
            tokens_per_second=tokens_per_second,
            distilled=distilled,
        )

    def _check_room(self) -> None:
        if self.options.actors == 1:
            return
        import torch

        cuda = self.device.startswith("cuda")
        room, what = (torch.cuda.device_count(), "GPUs") if cuda else (os.cpu_count() or 1, "cores")
        if self.options.actors > room:
            raise InputError(f"--actors {self.options.actors}: this machine has {room} {what}; give at most {room}")

    def _path(self) -> LayerPath | None:
        along, depth = self.options.along, self.options.depth
        if along is None:
            return None
        if along.endswith(".json"):
            static = load_static(along)
            static.check_matches(self.fingerprint, self.layers, along)
            path = static.shallow.path if depth is None else static.at_depth(depth)
        else:
            try:
                path = LayerPath.parse(along)
            except ValueError as error:
                raise InputError(f"--along {along}: {error}") from error
        if len(path) != self.layers:
            raise InputError(f"--along has {len(path)} layers, {self.options.model} has {self.layers}")
        if 0 not in path:
            raise InputError(f"--along {path} skips no layer, so there is nothing to refit")
        return path

    def _too_few(self, texts: Texts) -> str | None:
        """What is wrong if the text does not suffice for the rank or for training; less than asked for is told."""
        options, tokens = self.options, texts.tokens
        needed = TOKENS_PER_RANK * (options.rank or self.width)
        if tokens < needed:
            return (
                f"{', '.join(options.sources)}: {tokens:,} tokens to fit on, rank {options.rank or self.width} needs "
                f"{needed:,}; give more --text or --tokens, or a lower --rank"
            )
        if options.distill_steps is not None and not texts.held_out:
            return f"{', '.join(options.sources)}: no text is left to judge training by; give more --text or --tokens"
        if tokens < options.tokens:
            self.tell(f"{', '.join(options.sources)}: {tokens:,} tokens, not the {options.tokens:,} asked for")
        return None

    def _settings(self, dtype: str) -> str:
        """A digest of all that the sums, and the numbers of their groups, depend on."""
        from .states import BATCH_TOKENS, GROUP_TOKENS

        options = self.options
        chosen = {name: value for name, value in asdict(options).items() if name in ("tokens", "chat", "seed", "task")}
        files = [_stamp(source) for source in options.sources]
        parts = [
            chosen,
            options.sources,
            files,
            lasting(self.fingerprint),
            self.device.split(":")[0],
            dtype,
            BATCH_TOKENS,
            GROUP_TOKENS,
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()

    def _set_threads(self) -> None:
        if self.options.threads is not None:
            import torch

            torch.set_num_threads(self.options.threads)


def _stamp(source: str) -> Sequence[int]:
    """Size and time of a file, so that an edited one is read again."""
    if not os.path.isfile(source):
        return ()
    facts = os.stat(source)
    return facts.st_size, facts.st_mtime_ns
