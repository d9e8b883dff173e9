"""A model's fingerprint: what of it the answers depend on, part by part, and how two of them compare.

`<files>.w<weights>.c<config>.g<generation>.k<tokenizer>.p<template>`, each 16 hex digits. `files` is the digest of
files as they are, which is all that older runs recorded; it counts only beside one of these. A part that no answer
depends on may be left out, and is then not compared.
"""

from __future__ import annotations

import hashlib

PARTS = {"w": "weights", "c": "config", "g": "generation config", "k": "tokenizer", "p": "chat template"}
"""letter -> what the part is called."""


def joined(files: str, parts: dict[str, str]) -> str:
    """The fingerprint of a digest of the files, and of digests by the letters of `PARTS`."""
    return ".".join([files, *(letter + parts[letter] for letter in PARTS if letter in parts)])


def used_by(fingerprint: str, *, chat: bool, generates: bool) -> str:
    """The fingerprint without the parts that answers do not depend on.

    Args:
        fingerprint: as `joined` gives it.
        chat: whether prompts go through the chat template.
        generates: whether answers are generated, not chosen.
    """
    unused = {letter for letter, used in (("p", chat), ("g", generates)) if not used}
    parts = {letter: digest for letter, digest in _parts(fingerprint).items() if letter not in unused}
    return joined(_files(fingerprint), parts)


def differences(recorded: str, found: str) -> list[str]:
    """Which parts of a model differ between two fingerprints; empty: it is the same model, as far as both tell."""
    mine, theirs = _parts(recorded), _parts(found)
    if mine and theirs:
        both = mine.keys() & theirs.keys()
        return [name for letter, name in PARTS.items() if letter in both and mine[letter] != theirs[letter]]
    return [] if _files(recorded) == _files(found) else ["files"]


def difference_told(recorded: str, found: str, made: str) -> str:
    """How the model at hand differs from the one that something was made with: `the chat template differs from …`."""
    names = differences(recorded, found)
    what = "weights, config or tokenizer" if names == ["files"] else " and ".join(names)
    return (
        f"the {what} {'differs' if len(names) == 1 and names[0] not in ('files', 'weights') else 'differ'} from {made}"
    )


def shown(fingerprint: str) -> str:
    """16 hex digits, for messages."""
    return _files(fingerprint)


def part_of(fingerprint: str, name: str) -> str:
    """The 16 hex digits of a part, by the name that `differences` gives it."""
    return _parts(fingerprint)[next(letter for letter, each in PARTS.items() if each == name)]


def lasting(fingerprint: str) -> str:
    """16 hex digits that stay while all parts do: names what depends on them. An older fingerprint stays as it is."""
    _, dot, parts = fingerprint.partition(".")
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest() if dot else fingerprint


def _files(fingerprint: str) -> str:
    return fingerprint.partition(".")[0]


def _parts(fingerprint: str) -> dict[str, str]:
    return {part[0]: part[1:] for part in fingerprint.split(".")[1:] if part}
