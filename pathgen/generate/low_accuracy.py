"""Why full depth may be right on almost nothing: often questions are asked or graded in a way that cannot work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..questions.grading import is_gradable
from ..questions.question import Question
from ..questions.tasks import Task

FEWEST = 8
"""Of fewer questions nothing is said."""
LOW = 0.05
"""Generated answers: accuracy up to which something is said."""
MANY_CUT = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """How questions were asked: `templated` if the model has a chat template, `chat` if it was used."""

    task: Task
    questions: Sequence[Question]
    chat: bool
    templated: bool

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the choices."""
        shares = [1 / len(question.choices) for question in self.questions if question.choices]
        return sum(shares) / len(shares) if shares else 0.0


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in a model's folder has a chat template; loads nothing."""
    config = folder / "tokenizer_config.json"
    named = config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8", errors="replace")
    return named or (folder / "chat_template.jinja").is_file()


def low_accuracy(accuracy: float | None, answered: int, cut: int | None, asked: Asked) -> list[str]:
    """A line that says why full depth may be right on so little; none if it is right often enough.

    Args:
        accuracy: of full depth.
        answered: questions that it is over.
        cut: how many answers of full depth were cut; None without generated answers.
        asked: how.
    """
    task, chance = asked.task, asked.chance
    if accuracy is None or answered < FEWEST:
        return []
    error = math.sqrt(chance * (1 - chance) / answered)
    reasons: list[str] = []
    if task.generates:
        if accuracy > LOW:
            return []
        if cut and cut > MANY_CUT * answered:
            reasons.append(f"{cut} of {answered} answers were cut at {task.max_new_tokens} tokens (--max-new-tokens)")
        if "\n" in task.stop:
            reasons.append("answers end at the first line break, which ends a chain of thought (--stop-text '')")
        if odd := sum(not is_gradable(question.reference or "") for question in asked.questions):
            reasons.append(f"{odd} references cannot be read as an answer (--columns reference=COLUMN)")
    elif task.letters:
        if accuracy > chance + error:
            return []
        reasons.append(
            f"it is at chance, {chance:.1%}: the model may not answer by letter (--task arc scores the texts)"
        )
    else:
        if accuracy >= chance - 2 * error:
            return []
        reasons.append(
            f"it is below chance, {chance:.1%}: gold may be read wrongly (`pathgen show`, --columns answers=…)"
        )
    if asked.templated and not asked.chat:
        reasons.append("the model has a chat template and was asked without (--chat)")
    elif not asked.templated and not asked.chat and task.generates:
        reasons.append("a base model without a chat template may not answer in this form (--task arc scores choices)")
    why = f"; why that may be: {'; '.join(reasons)}" if reasons else ""
    return [f"full depth is right on {accuracy:.1%}{why}"]
