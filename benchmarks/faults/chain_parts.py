"""What a chain is made of: a tiny model with a tokenizer and questions, commands and actors in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cluster.fleet.work_thread import WorkThread
from pathgen.errors import InputError, PathgenError

from .families import tiny_model

INTERRUPTED_FROM = 128
"""Exit codes above are of a signal."""
CONTEXT = 512
"""Tokens; a token is a character."""
THINGS = ("cork", "lead", "iron", "snow", "salt", "sand", "wood")
HARNESS_CHOICES = {
    "task": "chain_choices",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{question}} A:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{choices.index(answer)}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
HARNESS_TEXT = {
    "task": "chain_text",
    "output_type": "generate_until",
    "doc_to_text": "Q: {{question}} A:",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def save_tiny(folder: Path, group: str, kind: str) -> Path:
    """A folder of a tiny random model of a type, with a tokenizer of one token a character."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = tiny_model(group, kind, max_position_embeddings=CONTEXT)
    model.save_pretrained(folder)
    vocabulary = {"<eos>": 0, **{chr(code): code - 31 for code in range(32, 127)}, "\n": 96}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    return folder


def write_questions(file: Path, count: int) -> Path:
    """Short questions of two to four choices, as JSON lines."""
    rows = []
    for number in range(count):
        choices = [THINGS[(number + place) % len(THINGS)] for place in range(2 + number % 3)]
        rows.append({"id": f"q{number}", "question": f"Which of {number} floats{'?' * (1 + number % 4)}"})
        rows[-1] |= {"choices": choices, "answer": choices[number % 2]}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read_questions(file: Path) -> list[dict[str, Any]]:
    """What `write_questions` wrote."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def called(program: str, command: str, *words: object) -> dict[str, Any]:
    """The object that a command prints with `--json`.

    Raises:
        InputError: it refuses its input (exit code 2).
        PathgenError: it ends otherwise than with 0.
        KeyboardInterrupt: it was interrupted.
    """
    import infer.cli
    import pathgen.cli
    import router.cli

    app = {"pathgen": pathgen.cli.app, "router": router.cli.app, "infer": infer.cli.app}[program]
    quiet = [] if command in ("check", "stats", "validate", "export") else ["--quiet"]
    result = CliRunner().invoke(app, [command, "--json", *quiet, *map(str, words)])
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1]) if result.stdout else {}
    if result.exit_code == InputError.exit_code:
        raise InputError(answer.get("error") or answer["reason"])
    if result.exit_code > INTERRUPTED_FROM:
        raise KeyboardInterrupt
    if result.exit_code:
        raise PathgenError(f"{program} {command} exits with {result.exit_code}: {answer.get('error', result.stderr)}")
    return answer


def work_through(worker: WorkThread, items: Sequence[Any]) -> None:
    """Give an actor all items, and end it when they are done; its errors are raised here."""
    left, done = list(items), 0
    while done < len(items):
        report = worker.poll(0.05 if left else 1.0)
        done += len(report.finished)
        worker.extend(left[: report.room])
        left = left[report.room :]
    worker.drain()


def harness_gap(ours: Any, plain: Any, rows: Sequence[dict[str, Any]]) -> float:
    """The largest gap between two of the harness's models over the questions, in nats of a continuation.

    Raises:
        PathgenError: another written answer, or another continuation that greedy decoding gives.
    """
    one, other = (_harness_answers(model, rows) for model in (ours, plain))
    gaps = []
    for mine, theirs in zip(one, other, strict=True):
        if isinstance(mine, str):
            if mine != theirs:
                raise PathgenError(f"the harness reads {mine!r}, of its own model {theirs!r}")
            continue
        if mine[1] != theirs[1]:
            raise PathgenError("the harness reads another greedy answer than of its own model")
        gaps.append(abs(mine[0] - theirs[0]))
    return max(gaps)


def _harness_answers(model: Any, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Of all requests, in order: (log-likelihood, whether greedy), or a text."""
    from datasets import Dataset, DatasetDict
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    def load(**_: object) -> DatasetDict:
        return DatasetDict({"test": Dataset.from_list(list(rows))})

    tasks = [{**task, "custom_dataset": load, "test_split": "test"} for task in (HARNESS_CHOICES, HARNESS_TEXT)]
    found = simple_evaluate(model, tasks=tasks, task_manager=TaskManager(include_defaults=False), bootstrap_iters=0)
    assert found is not None
    return [
        answer[0]
        for name in ("chain_choices", "chain_text")
        for sample in sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
        for answer in sample["resps"]
    ]
