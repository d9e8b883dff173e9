"""run.json: the settings of a run, and which of them may change when the run continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..artefacts import JsonArtefact
from ..errors import ArtefactError
from ..identity import differences, part_of, shown
from ..questions.tasks import Task, described_task

GROWABLE = ("simulations", "layer_budget", "seconds_budget")
"""Settings that a later call may raise; None means no limit."""


RETIRED = ("calibrate", "prior")
"""Settings that older runs may have."""


@dataclass(frozen=True, slots=True)
class RunInfo(JsonArtefact):
    """The identity of a run, and facts about it.

    Attributes:
        settings: everything that changes results, as plain JSON values by name.
        model_id: alias, hub id or folder of the model; may differ between machines.
        fingerprint: of the model, by `pathgen.identity`; no part that both runs have may differ.
        source: where the questions come from; may change, as questions may be added.
        notes: anything, for example measured costs; the first call's value of a name stays.
        questions: number of questions in the latest call.
        finished: whether the latest call ended normally.
        options: options of the latest call that do not change results: actors, devices, timeouts.
    """

    VERSION = ("schema_version", 1)
    OPEN_ENDED = True
    DAMAGED = "{where} is damaged ({error}); restore it or give another --out"

    settings: dict[str, Any]
    model_id: str = field(metadata={"at": "model.id"})
    fingerprint: str = field(metadata={"at": "model.fingerprint"})
    task: str
    source: str
    notes: dict[str, Any] = field(default_factory=dict)
    questions: int = 0
    finished: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def bridges(self) -> str | None:
        """Digest of the bridges that ran where paths skip; None without."""
        return self.settings.get("bridges")

    @property
    def asked_task(self) -> Task:
        """The task with this run's length and stop texts of answers; errors as `described_task`."""
        return described_task(self.settings["task"])

    def continued_by(self, wanted: RunInfo) -> RunInfo:
        """This run after a call with the settings of `wanted`: raised budgets, current source and notes.

        Raises:
            ArtefactError: something differs that must not; the text ends with a table of the differences.
        """
        new = RunInfo.from_json(wanted.to_json(), "the wanted settings")  # tuples become lists, as stored
        mine, theirs = _flat(self.settings), _flat(new.settings)
        pairs = [
            *_other_parts(self.fingerprint, new.fingerprint),
            ("task", self.task, new.task),
            *(
                (name, mine.get(name, "-"), theirs.get(name, "-"))
                for name in dict.fromkeys([*mine, *theirs])
                if name not in GROWABLE
            ),
        ]
        if differing := [pair for pair in pairs if pair[1] != pair[2]]:
            rows = [("field", "stored", "wanted"), *differing]
            widths = [max(len(str(row[column])) for row in rows) for column in (0, 1)]
            table = "\n".join(f"  {name!s:{widths[0]}}  {a!s:{widths[1]}}  {b}" for name, a, b in rows)
            raise ArtefactError(f"a run with other settings; give these, or another --out:\n{table}")
        budgets = {
            name: _larger(self.settings.get(name), new.settings.get(name))
            for name in GROWABLE
            if name in self.settings or name in new.settings
        }
        return replace(
            self,
            settings=self.settings | budgets,
            source=new.source,
            notes=new.notes | self.notes,
            questions=new.questions,
            finished=new.finished,
            options=new.options,
        )


def _other_parts(stored: str, wanted: str) -> list[tuple[str, str, str]]:
    """A row for each part of the model that differs: name, stored, wanted."""
    return [
        ("model fingerprint", shown(stored), shown(wanted))
        if name == "files"
        else (f"model fingerprint: {name}", part_of(stored, name), part_of(wanted, name))
        for name in differences(stored, wanted)
    ]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with nested ones under dotted names like `task.chat`; without retired ones that were not used."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in RETIRED and not value:
            continue
        parts = value if isinstance(value, dict) else {"": value}
        flat.update((f"{name}.{part}" if part else name, entry) for part, entry in parts.items())
    return flat


def _larger(stored: float | None, wanted: float | None) -> float | None:
    return None if stored is None or wanted is None else max(stored, wanted)
