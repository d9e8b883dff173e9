"""The questions of a finished or interrupted run, and all that its search has evaluated on them."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ArtefactError, InputError
from .questions import Question
from .records import Evaluation, PathRecord
from .rundir import RunDirectory
from .runinfo import RunInfo
from .shards import UnreadableShard, from_table


@dataclass(frozen=True, slots=True, eq=False)
class SearchedRun:
    """A run's folder, read.

    Attributes:
        out: the folder, as it was named.
        info: what it is a run of.
        num_layers: L, of the model.
        questions: those that have a record and did not fail, in the order of the shards.
        evaluations: by question sha, every path that was run on it; the full path is the first.
    """

    out: str
    info: RunInfo
    num_layers: int
    questions: tuple[Question, ...]
    evaluations: dict[str, list[Evaluation]]

    @classmethod
    def load(cls, out: str) -> SearchedRun:
        """Read the committed records of a run.

        Raises:
            InputError: the folder holds no run, or no question of it has been searched.
            ArtefactError: run.json or a shard is damaged.
        """
        directory = RunDirectory(out)
        info = directory.info()
        try:
            records = [record for record in from_table(directory.committed.table()) if record.status != "failed"]
        except UnreadableShard as error:
            raise ArtefactError(f"{out}: {error}") from error
        if not records:
            raise InputError(f"{out} holds no searched question yet; let its `pathgen generate` go on first")
        questions = tuple(question_of(record) for record in records)
        evaluations: dict[str, list[Evaluation]] = {}
        for question, record in zip(questions, records, strict=True):
            evaluations.setdefault(question.sha, []).extend(record.evaluations)
        return cls(out, info, records[0].num_layers, questions, evaluations)

    @property
    def chat(self) -> bool:
        """Whether its prompts went through the chat template."""
        return bool(self.info.settings["task"]["chat"])

    @property
    def dtype(self) -> str:
        """In which it was searched."""
        return str(self.info.settings["dtype"])


def question_of(record: PathRecord) -> Question:
    """The question that a record is about."""
    return Question(record.question_id, record.prompt, record.choices, record.gold, record.reference)
