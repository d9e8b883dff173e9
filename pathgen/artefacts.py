"""Our JSON files: frozen dataclasses, read strictly; a damaged file gives one line and exit code 4."""

from __future__ import annotations

from typing import ClassVar, Self

from cluster.program.json_codec import OtherVersion, from_json, to_json

from .errors import ArtefactError, one_line


class JsonArtefact:
    """Base of the frozen dataclasses that are the content of one JSON file.

    Attributes:
        DAMAGED: the message for a file that does not fit the class, with `{where}` and `{error}`.
        REMEDY: what to do if a file has another version.
    """

    __slots__ = ()

    DAMAGED: ClassVar[str]
    REMEDY: ClassVar[str] = "upgrade layerpaths"

    def to_json(self) -> bytes:
        """The content of the file."""
        return to_json(self, indent=1)

    @classmethod
    def from_json(cls, content: bytes | str, where: str) -> Self:
        """The inverse of `to_json`; `where` is the file's name, for errors.

        Raises:
            ArtefactError: the content is damaged, incomplete, or of another version.
        """
        try:
            return from_json(cls, content)
        except OtherVersion as error:
            raise ArtefactError(f"{where} has {error}: {cls.REMEDY}") from error
        except ValueError as error:
            raise ArtefactError(cls.DAMAGED.format(where=where, error=one_line(error))) from error
