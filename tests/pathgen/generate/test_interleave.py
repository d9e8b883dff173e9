"""Many searches in one batch: what shares it changes no search, and what does not fit fails alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from path_records import make_record
from search_toys import layer_search, toy_model

from pathgen.generate.interleave import Interleaver
from pathgen.generate.question_search import QuestionSearch
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation

LAYERS = 4


@dataclass(eq=False)
class Asked:
    """Stands for a prepared question."""

    number: int


@dataclass
class Kept:
    cleared: int = 0

    def clear(self) -> None:
        self.cleared += 1


@dataclass
class Fake:
    """An evaluator that runs out of memory on batches of more than `fits` paths, or with a `greedy` question."""

    fits: int = 10_000
    greedy: int | None = None
    nan_at_full_depth: int | None = None
    batches: list[list[tuple[int, LayerPath]]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)

    @property
    def executor(self) -> Fake:
        return self

    def evaluate(self, asked):
        self.batches.append([(prepared.number, path) for prepared, path in asked])
        if len(asked) > self.fits or self.greedy in [prepared.number for prepared, _ in asked]:
            raise torch.OutOfMemoryError("no room")
        return [self.answer(prepared.number, path) for prepared, path in asked]

    def answer(self, number: int, path: LayerPath) -> Evaluation:
        if number == self.nan_at_full_depth and path.edits == 0:
            return Evaluation(path, correct=False, margin=None)
        return toy_model(number, null_share=0)(path)

    def layers_run(self, prepared) -> int:
        return 0

    def influence(self, prepared) -> tuple[float, ...]:
        return tuple(np.random.default_rng(prepared.number).random(2 * LAYERS - 1))

    def forget(self, prepared) -> None:
        self.forgotten.append(prepared.number)


def running(number: int, simulations: int = 12, **more) -> QuestionSearch:
    return QuestionSearch(
        Asked(number), layer_search(LAYERS, seed=number, simulations=simulations, parallel_leaves=4), **more
    )


def drive(fake: Fake, questions: list[QuestionSearch], in_flight: int) -> list[QuestionSearch]:
    """Run all, so many at a time; in the order that they ended."""
    interleaver, waiting, ended = Interleaver(fake), list(questions), []
    while waiting or interleaver.running:
        while waiting and len(interleaver.running) < in_flight:
            interleaver.running.append(waiting.pop(0))
        ended += interleaver.step()
    return ended


@pytest.mark.parametrize("in_flight", [2, 5])
def test_what_shares_a_batch_changes_no_search(in_flight):
    alone, together = [running(n) for n in range(5)], [running(n) for n in range(5)]
    drive(Fake(), alone, 1)
    fake = Fake()
    drive(fake, together, in_flight)
    assert [one.asker.evaluations for one in together] == [one.asker.evaluations for one in alone]
    assert [one.layer_executions for one in together] == [one.layer_executions for one in alone]
    assert max(len({number for number, _ in batch}) for batch in fake.batches) == in_flight
    assert sorted(fake.forgotten) == [0, 1, 2, 3, 4]


def test_each_path_is_run_once_and_told_in_the_order_asked():
    fake, one = Fake(), running(0)
    drive(fake, [one], 1)
    ran = [path for batch in fake.batches for _, path in batch]
    assert len(set(ran)) == len(ran)
    assert [evaluation.path for evaluation in one.asker.evaluations] == ran
    assert one.layer_executions == sum(path.depth for path in ran)
    assert one.seconds > 0


def test_stored_evaluations_are_not_run_again():
    before = running(0, simulations=6)
    drive(Fake(), [before], 1)
    stored = {evaluation.path: evaluation for evaluation in before.asker.evaluations}
    whole, fake = running(0), Fake()
    drive(Fake(), [whole], 1)
    after = running(0)
    after.go_on_from(make_record("q", evaluations=list(stored.values()), influence=before.asker.influence))
    drive(fake, [after], 1)
    ran = {path for batch in fake.batches for _, path in batch}
    assert ran == {evaluation.path for evaluation in whole.asker.evaluations} - stored.keys()
    assert after.asker.evaluations == whole.asker.evaluations
    assert after.layer_executions == sum(path.depth for path in ran)


def test_seconds_end_a_search_between_batches():
    one = running(0, simulations=1000, seconds_budget=1.0, seconds=0.0)
    interleaver = Interleaver(Fake())
    interleaver.running.append(one)
    assert interleaver.step() == []
    one.seconds = 1.0
    assert interleaver.step() == [one]
    assert one.asker.stop_reason == "budget"
    assert len(one.asker.evaluations) == 1


def test_a_batch_that_does_not_fit_runs_in_halves_once():
    fake = Fake(fits=4)
    questions = [running(n) for n in range(2)]
    drive(fake, questions, 2)  # two searches ask 4 paths each
    assert [one.error for one in questions] == [None, None]
    assert fake.kept.cleared == sum(len(batch) > 4 for batch in fake.batches) > 0
    whole = [running(n) for n in range(2)]
    drive(Fake(), whole, 2)
    assert [one.asker.evaluations for one in questions] == [one.asker.evaluations for one in whole]


def test_a_question_that_never_fits_fails_alone():
    fake = Fake(greedy=1)
    questions = [running(0), running(1)]
    drive(fake, questions, 2)
    assert questions[0].error is None
    assert questions[0].asker.stop_reason == "budget"
    assert "out of memory" in questions[1].error
    assert sorted(fake.forgotten) == [0, 1]


def test_nan_at_full_depth_fails_the_question():
    one, other = running(0), running(1)
    drive(Fake(nan_at_full_depth=0), [one, other], 2)
    assert "NaN" in one.error
    assert other.error is None
