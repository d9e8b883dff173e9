"""What is timed is what systems do: whole answers along the policy's paths, in turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_runs import SHORT, make_questions, save_reading_router

from infer.bench import timing as bench_timing
from infer.bench.timing import Forwarded, Forwards, Timing, time_systems
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths, RecordedPolicy
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.dev.routed_scores import route
from router.net.policy import RouterPolicy
from router.saved.loading import load_router

QUESTIONS = make_questions("raft", 5)
FULL = LayerPath.full(6)


@pytest.fixture(scope="module")
def model(tiny_model):
    return PathModel.from_pretrained(str(tiny_model))


def forwards(evaluator, questions=QUESTIONS):
    return Forwards(evaluator, {place: evaluator.prepare(question) for place, question in enumerate(questions)})


@pytest.mark.parametrize("packed", [True, False])
def test_a_router_decides_here_what_it_decides_on_prompts_alone(model, tiny_model, tmp_path, packed):
    """The rows hold prompt and choices; the policy must see the prompt only, whatever else the row holds."""
    evaluator = Evaluator(model, find_task("arc"))
    if not packed:
        evaluator.masks = None
    router = load_router(save_reading_router(tmp_path / "router", tiny_model))
    wanted = route(evaluator, RouterPolicy(router), QUESTIONS)
    assert len(set(wanted)) > 1
    recorded = RecordedPolicy(RouterPolicy(router))
    forwards(evaluator).run(range(5), lambda owners: recorded)
    rows = 1 if packed else 3
    assert recorded.paths() == [path for path in wanted for _ in range(rows)]


def test_tokens_are_those_of_the_choices_and_the_cache_holds_what_ran(model):
    evaluator = Evaluator(model, find_task("arc"))
    run = forwards(evaluator).run
    full = run([0], lambda owners: FixedPaths([FULL] * len(owners)))
    assert full.tokens == len(" cork") + len(" lead") + len(" iron bar")
    prepared = evaluator.prepare(QUESTIONS[0])
    per_token = 2 * 2 * 8 * 4  # keys and values, two heads of eight floats
    assert full.cache_bytes == len(prepared.rows[0]) * per_token * 6
    short = run([0], lambda owners: FixedPaths([SHORT] * len(owners)))
    assert short.cache_bytes == full.cache_bytes * 4 // 6


def test_generated_tokens_are_counted_up_to_each_rows_end(model, monkeypatch):
    evaluator = Evaluator(model, find_task("math"))
    questions = [Question("a", "1 + 1", reference="2"), Question("b", "What is 20 + 3?", reference="23")]
    made = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda *a, **k: made.append(generate(*a, **k)) or made[-1])
    found = forwards(evaluator, questions).run([0, 1], lambda owners: FixedPaths([FULL, SHORT]))
    width = max(len(evaluator.prepare(question).prompt_ids) for question in questions)
    assert found.tokens == int((made[0][:, width:] != 0).sum())
    assert 0 < found.tokens <= 64
    assert found.cache_bytes > 0


def test_tokens_of_a_model_without_a_padding_token_are_counted(model, monkeypatch):
    monkeypatch.setattr(model.hf_model.generation_config, "pad_token_id", None)
    evaluator = Evaluator(model, find_task("math"))
    questions = [Question("a", "1 + 1", reference="2"), Question("b", "What is 20 + 3?", reference="23")]
    found = forwards(evaluator, questions).run([0, 1], lambda owners: FixedPaths([FULL, SHORT]))
    assert 0 < found.tokens <= 64


def test_systems_take_turns_and_the_first_turn_only_warms_up(monkeypatch):
    monkeypatch.setattr(bench_timing, "TURNS", 2)
    clock = iter(np.arange(1000.0))
    monkeypatch.setattr(bench_timing.time, "perf_counter", lambda: next(clock))
    calls = []

    def run(name, cache_bytes):
        return lambda places: calls.append((name, tuple(places))) or Forwarded(10 * len(places), cache_bytes)

    found = time_systems({"a": run("a", 7), "b": run("b", None)}, [0, 1, 2], [0, 1], torch.device("cpu"))
    alone = [("a", (0,)), ("b", (0,)), ("a", (1,)), ("b", (1,)), ("a", (2,)), ("b", (2,))]
    together = [("a", (0, 1)), ("b", (0, 1))]

    def swapped(pairs):
        return [pair for two in zip(pairs[1::2], pairs[::2], strict=True) for pair in two]

    assert calls == alone + together + swapped(alone) + swapped(together) + alone + together
    # Each call reads the clock before and after, so it takes one second.
    assert found["a"] == Timing((1.0,) * 6, 20.0, 7, None)
    assert found["b"].cache_bytes is None


def test_percentiles_and_overhead_by_hand():
    fixed = Timing((0.010, 0.020, 0.040), 1.0, 0, None)
    routed = Timing((0.011, 0.021, 0.048), 1.0, 0, None)
    assert fixed.latency_ms(50) == pytest.approx(20)
    assert fixed.latency_ms(95) == pytest.approx(20 + 0.9 * 20)
    assert routed.overhead_over(fixed) == pytest.approx(0.1)  # the median of 10 %, 5 % and 20 %
