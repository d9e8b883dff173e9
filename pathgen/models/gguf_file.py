"""The header of a GGUF file: what the file holds, and whether it is whole. No tensor is read."""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
"""The end of the name of one part of a split file."""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value type in the file -> its struct format."""
STRING, ARRAY = 8, 9
MOST_AXES = 8
PLAIN = {"F16", "BF16", "F32", "F64"}
"""Tensor types that are no blocks of quantised values."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What the header says.

    Attributes:
        metadata: its keys and values; of an array, only the length.
        names: of all tensors.
        values: number of values by tensor type.
        end: bytes that the file has if it is whole.
    """

    path: Path
    metadata: Mapping[str, Any]
    names: tuple[str, ...]
    values: Mapping[str, int]
    end: int

    @property
    def architecture(self) -> str:
        """Such as `llama`; empty if the header does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def is_quantised(self) -> bool:
        """Some tensors are held in blocks of few bits a value."""
        return bool(set(self.values) - PLAIN)

    @property
    def kind(self) -> str:
        """How the values are held: `Q4_K_M`, `F16`."""
        from gguf import LlamaFileType

        try:
            name = LlamaFileType(self.metadata["general.file_type"]).name
        except (KeyError, ValueError):
            name = "GUESSED"
        if name != "GUESSED":
            return name.removeprefix("MOSTLY_").removeprefix("ALL_")
        return max(self.values, key=lambda kind: self.values[kind])


def read_gguf(path: Path) -> GgufFile:
    """The header of a whole file with one language model and its tokenizer.

    Raises:
        InputError: it is no GGUF file, damaged, cut short, a part of a split file, or lacks weights or tokenizer.
    """
    with path.open("rb") as handle:
        if handle.read(4) != MAGIC:
            raise InputError(f"{path} is not a GGUF file: it does not begin with the bytes GGUF (a git-lfs pointer?)")
        data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    with data:
        try:
            found = _Reader(path, data).header()
        except (struct.error, IndexError):
            raise InputError(f"{path} is cut short: its header goes on beyond its end; fetch it again") from None
        except (ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"{path} is damaged, or of an unknown kind of GGUF: {error}") from None
    _refuse_unusable(found)
    return found


def merge_hint(path: Path) -> str | None:
    """How to merge the split file that this is a part of; None for a whole file."""
    if (part := PART.search(path.name)) is None:
        return None
    stem = path.name[: part.start()]
    return f"merge its {int(part[2])} parts first: llama-gguf-split --merge {stem}-00001-of-{part[2]}.gguf {stem}.gguf"


def _refuse_unusable(file: GgufFile) -> None:
    path, size = file.path, file.path.stat().st_size
    if hint := merge_hint(path):
        raise InputError(f"{path} is one part of a split GGUF; {hint}")
    if int(file.metadata.get("split.count") or 0) > 1:
        raise InputError(f"{path} is one part of a split GGUF; merge the parts first: llama-gguf-split --merge")
    if not file.names:
        raise InputError(f"{path} holds a vocabulary only, no weights")
    if file.end > size:
        raise InputError(f"{path} is cut short: its tensors end at byte {file.end}, the file at {size}; fetch it again")
    if not file.metadata.get("tokenizer.ggml.model") or not file.metadata.get("tokenizer.ggml.tokens"):
        raise InputError(f"{path} holds no tokenizer; take a GGUF with one, or the model's safetensors folder")


@dataclass(slots=True)
class _Reader:
    path: Path
    data: mmap.mmap
    place: int = 4
    seen: dict[str, Any] = field(default_factory=dict)

    def header(self) -> GgufFile:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        version, num_tensors, num_keys = self.take("IQQ")
        if version not in VERSIONS:
            raise ValueError(f"version {version}, not 2 or 3" + (" (big-endian)" if version & 0xFFFF == 0 else ""))
        for _ in range(num_keys):
            key = self.text()
            self.seen[key] = self.value(*self.take("I"))
        values: Counter[str] = Counter()
        names, ends = [], [0]
        for _ in range(num_tensors):
            names.append(self.text())
            (num_axes,) = self.take("I")
            if num_axes > MOST_AXES:
                raise ValueError(f"a tensor of {num_axes} axes")
            shape = self.take("Q" * num_axes)
            number, offset = self.take("IQ")
            kind = GGMLQuantizationType(number)
            per_block, block_bytes = GGML_QUANT_SIZES[kind]
            values[kind.name] += math.prod(shape)
            ends.append(offset + math.prod(shape) // per_block * block_bytes)
        alignment = int(self.seen.get("general.alignment", 32)) or 32
        start = -(-self.place // alignment) * alignment
        return GgufFile(self.path, self.seen, tuple(names), values, start + max(ends))

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found

    def skip(self, num_bytes: int) -> None:
        self.place += num_bytes
        if self.place > len(self.data):
            raise IndexError

    def text(self) -> str:
        (size,) = self.take("Q")
        begin = self.place
        self.skip(size)
        return self.data[begin : self.place].decode(errors="replace")

    def value(self, kind: int) -> Any:
        """The next value; of an array, only its length."""
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            if kind not in SCALARS:
                raise ValueError(f"a value of type {kind}")
            return self.take(SCALARS[kind])[0]
        inner, length = self.take("IQ")
        if inner in SCALARS:
            self.skip(length * struct.calcsize(f"<{SCALARS[inner]}"))
        else:
            for _ in range(length):
                if inner == STRING:
                    self.skip(*self.take("Q"))
                else:
                    self.value(inner)
        return length
