"""The evaluator: which questions it takes, how it batches them, and that its evaluations are what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_checkpoint import NUM_LAYERS

from pathgen.engine.executor import Executor
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.evaluation import evaluator as evaluator_module
from pathgen.evaluation.batching import MAX_PADDING
from pathgen.evaluation.decoding import GreedyAnswer, before_stop
from pathgen.evaluation.evaluator import Evaluator, Prepared, QuestionError, context_tokens
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.grading import answers_agree
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

CONTEXT = 512
FULL = LayerPath.full(NUM_LAYERS)
PATHS = [LayerPath(path) for path in ((1, 1, 1, 1, 1, 1), (0, 1, 2, 1, 0, 1), (0, 0, 0, 1, 0, 0), (1, 1, 1, 1, 2, 1))]
CHOICES = [
    Question("a", "What is red?", choices=("grass", "a rose", "snow"), gold=1),
    Question("b", "One plus one is", choices=("two", "three"), gold=0),
    Question("c", "Which of these is the longest river of South America?", choices=("Nile", "Amazon"), gold=1),
]
SUMS = [
    Question("a", "3 + 4?", reference="7"),
    Question("b", "Anna has 12 apples and eats 5. How many has she left?", reference="7"),
    Question("c", "100 - 58 =", reference="42"),
]
CHAT = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


def pairs_of(evaluator: Evaluator, questions: Sequence[Question]) -> list[tuple[Prepared, LayerPath]]:
    return [(evaluator.prepare(question), path) for path in PATHS for question in questions]


def assert_alike(found: Sequence[Evaluation], wanted: Sequence[Evaluation]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one.path, one.correct, one.answer) == (other.path, other.correct, other.answer)
        assert one.margin == pytest.approx(other.margin, abs=1e-4)
        assert one.choice_scores == (other.choice_scores and pytest.approx(other.choice_scores, abs=1e-4))


# Preparing.


def test_a_question_may_fill_the_context_and_no_more(model: PathModel) -> None:
    evaluator = Evaluator(model, find_task("arc"))
    beyond = len("Question: \nAnswer:") + len(" yes")
    fits = Question("fits", "x" * (CONTEXT - beyond), choices=("yes", "no"), gold=0)
    (evaluation,) = evaluator.evaluate([(evaluator.prepare(fits), FULL)])
    assert evaluation.margin is not None
    with pytest.raises(QuestionError, match=f"question long: {CONTEXT + 1} tokens .* context is {CONTEXT}"):
        evaluator.prepare(Question("long", "x" * (CONTEXT - beyond + 1), choices=("yes", "no"), gold=0))


def test_a_generated_answer_needs_room(model: PathModel) -> None:
    evaluator = Evaluator(model, find_task("math"))
    room = CONTEXT - len("Question: \nAnswer:") - evaluator.task.max_new_tokens
    (evaluation,) = evaluator.evaluate([(evaluator.prepare(Question("fits", "x" * room, reference="1")), FULL)])
    assert evaluation.margin is not None
    with pytest.raises(QuestionError, match=f"question long: {CONTEXT + 1} tokens"):
        evaluator.prepare(Question("long", "x" * (room + 1), reference="1"))


def test_a_continuation_without_tokens_is_refused(model: PathModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.tokenizer, "chat_template", CHAT)
    evaluator = Evaluator(model, find_task("arc"), chat=True)
    with pytest.raises(QuestionError, match="question q: its prompt or a choice has no tokens"):
        evaluator.prepare(Question("q", "Which?", choices=("a", ""), gold=0))


def test_a_question_without_choices_or_of_unknown_tokens_is_refused(
    model: PathModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an import may hold, and a tokenizer that has learned tokens which its model has not."""
    evaluator = Evaluator(model, find_task("arc"))
    with pytest.raises(QuestionError, match="question q: its prompt or a choice has no tokens"):
        evaluator.prepare(Question("q", "Which?"))
    monkeypatch.setattr(type(evaluator.task), "encode", lambda *_: ([1, 2], [[3], [10**6]]))
    with pytest.raises(QuestionError, match="question q: the tokenizer gives token 1000000, the model knows"):
        evaluator.prepare(Question("q", "Which?", choices=("a", "b"), gold=0))


@pytest.mark.parametrize("packed", [True, False])
def test_two_questions_of_one_id_are_two_questions(model: PathModel, packed: bool) -> None:
    """Two folders may number theirs alike."""
    evaluator = Evaluator(model, find_task("arc"))
    if not packed:
        evaluator.masks = None
    pair = [
        Question("1", "What is red?", choices=("a rose", "grass"), gold=0),
        Question("1", "What has a trunk and ears?", choices=("an elephant", "a house", "a car"), gold=0),
    ]
    alone = [Evaluator(model, find_task("arc")) for _ in pair]
    expected = [one.evaluate([(one.prepare(q), FULL)])[0].margin for one, q in zip(alone, pair, strict=True)]
    together = evaluator.evaluate([(evaluator.prepare(question), FULL) for question in pair])
    assert [evaluation.margin for evaluation in together] == pytest.approx(expected, abs=1e-4)


def test_a_model_without_a_tokenizer_is_refused(model: PathModel) -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        Evaluator(SimpleNamespace(tokenizer=None), find_task("arc"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 100}, 100),
        ({}, 1 << 30),
        ({"max_position_embeddings": 100, "rope_parameters": {"rope_type": "linear", "factor": 2.0}}, 100),
        (
            {
                "max_position_embeddings": 100,
                "rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 25},
            },
            25,
        ),
        (
            {
                "max_position_embeddings": 100,
                "rope_scaling": {"type": "longrope"},
                "original_max_position_embeddings": 30,
            },
            30,
        ),
        ({"max_position_embeddings": 100, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, 100),
        (
            {
                "max_position_embeddings": 100,
                "rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 25},
            },
            100,
        ),
    ],
)
def test_context(config: dict[str, Any], tokens: int) -> None:
    assert context_tokens(SimpleNamespace(**config)) == tokens


# Evaluating.


def test_packed_and_plain_rows_agree(model: PathModel) -> None:
    packed, plain = (Evaluator(model, find_task("arc")) for _ in range(2))
    assert packed.masks is not None
    plain.masks, plain.executor = None, Executor(model, None)
    found = packed.evaluate(pairs_of(packed, CHOICES))
    assert_alike(found, plain.evaluate(pairs_of(plain, CHOICES)))
    for evaluation, (prepared, _) in zip(found, pairs_of(packed, CHOICES), strict=True):
        scores, gold = evaluation.choice_scores, prepared.question.gold
        assert scores is not None
        assert gold is not None
        assert evaluation.margin == scores[gold] - max(score for c, score in enumerate(scores) if c != gold)
        assert evaluation.correct == (evaluation.margin > 0)


def test_generated_answers_and_margins_are_those_of_each_row_alone(model: PathModel) -> None:
    evaluator = Evaluator(model, find_task("math"))
    assert model.tokenizer is not None
    pairs = pairs_of(evaluator, SUMS)
    for (prepared, path), evaluation in zip(pairs, evaluator.evaluate(pairs), strict=True):
        ids = torch.tensor([prepared.prompt_ids])
        out = model.generate(ids, policy=FixedPaths([path]), max_new_tokens=evaluator.task.max_new_tokens)
        text = str(model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
        reference = prepared.question.reference or ""
        assert evaluation.answer == before_stop(text, evaluator.task.stop)
        assert evaluation.correct == answers_agree(evaluation.answer, reference)
        answer_ids = model.tokenizer(f" {reference}")["input_ids"]
        logits = model.logits(torch.tensor([prepared.prompt_ids + answer_ids]), policy=FixedPaths([path]))[0]
        logprobs = logits[ids.shape[1] - 1 : -1].log_softmax(-1)
        mean = np.mean([float(row[token]) for row, token in zip(logprobs, answer_ids, strict=True)])
        assert evaluation.margin == pytest.approx(mean, abs=1e-4)


def test_a_right_answer_is_graded_right(model: PathModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [GreedyAnswer(" 3 + 4 = 7"), GreedyAnswer(" 3 + 4 = 8", cut=True)]
    monkeypatch.setattr(evaluator_module, "greedy_answers", lambda *args, **kwargs: answers)
    evaluator = Evaluator(model, find_task("math"))
    prepared = evaluator.prepare(SUMS[0])
    found = evaluator.evaluate([(prepared, PATHS[0]), (prepared, PATHS[1])])
    assert [(e.correct, e.cut) for e in found] == [(True, False), (False, True)]


@pytest.fixture
def poison(model: PathModel) -> Iterator[str]:
    """A character that the model answers with NaN."""
    assert model.tokenizer is not None
    (token,) = model.tokenizer("~")["input_ids"]

    def spoil(module: torch.nn.Module, args: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
        return embedded.masked_fill((args[0] == token)[..., None], float("nan"))

    hook = model.hf_model.get_input_embeddings().register_forward_hook(spoil)
    yield "~"
    hook.remove()


def test_nan_is_a_wrong_evaluation_without_a_margin(model: PathModel, poison: str) -> None:
    sick: dict[str, Callable[[], Question]] = {
        "arc": lambda: Question("sick", f"{poison}?", choices=("yes", "no"), gold=0),
        "math": lambda: Question("sick", f"{poison}?", reference="7"),
    }
    for name, make in sick.items():
        evaluator = Evaluator(model, find_task(name))
        well = evaluator.prepare(SUMS[0] if evaluator.task.generates else CHOICES[0])
        ill, alive = evaluator.evaluate([(evaluator.prepare(make()), FULL), (well, FULL)])
        assert (ill.correct, ill.margin, ill.choice_scores) == (False, None, None)
        assert alive.margin is not None


# Batching and work.


def batches_of(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Filled with the rows' lengths of each call of the engine."""
    seen: list[list[int]] = []
    for name in ("token_logprobs", "prefill"):
        own = getattr(evaluator.executor, name)

        def noted(asked: Any, own: Any = own) -> Any:
            seen.append([len(row) for row, _ in asked])
            return own(asked)

        monkeypatch.setattr(evaluator.executor, name, noted)
    return seen


@pytest.mark.parametrize(("name", "questions"), [("arc", CHOICES), ("math", SUMS)])
def test_batches_are_bounded_in_memory_and_padding(
    model: PathModel, monkeypatch: pytest.MonkeyPatch, name: str, questions: list[Question]
) -> None:
    evaluator = Evaluator(model, find_task(name))
    pairs = pairs_of(evaluator, questions)
    expected = evaluator.evaluate(pairs)
    longest = max(prepared.tokens for prepared, _ in pairs)
    bound = 2 * longest * 32 * 4  # two states of the longest row, 32 wide, float32
    monkeypatch.setattr(evaluator_module, "BATCH_STATE_BYTES", bound)
    seen = batches_of(evaluator, monkeypatch)
    assert_alike(evaluator.evaluate(pairs), expected)
    assert sum(map(len, seen)) == len(pairs)
    assert max(map(len, seen)) > 1
    for lengths in seen:
        assert len(lengths) * max(lengths) * 32 * 4 <= bound
        assert 1 - sum(lengths) / (len(lengths) * max(lengths)) <= MAX_PADDING


def test_few_rows_decode_together(model: PathModel, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(model, find_task("math"))
    pairs = pairs_of(evaluator, SUMS)
    expected = evaluator.evaluate(pairs)
    monkeypatch.setattr(evaluator_module, "DECODE_ROWS", 3)
    seen = batches_of(evaluator, monkeypatch)
    assert_alike(evaluator.evaluate(pairs), expected)
    assert max(map(len, seen)) == 3


@pytest.mark.parametrize(("name", "questions"), [("arc", CHOICES), ("math", SUMS)])
def test_work_is_counted_by_question_and_freed_with_it(model: PathModel, name: str, questions: list[Question]) -> None:
    evaluator = Evaluator(model, find_task(name))
    first, second = (evaluator.prepare(question) for question in questions[:2])
    evaluator.evaluate([(first, FULL), (second, FULL), (first, LayerPath((1, 1, 1, 1, 1, 2)))])
    assert (evaluator.layers_run(first), evaluator.layers_run(second)) == (NUM_LAYERS + 1, NUM_LAYERS)
    evaluator.forget(first)
    evaluator.evaluate([(first, FULL), (second, FULL)])
    assert (evaluator.layers_run(first), evaluator.layers_run(second)) == (NUM_LAYERS, NUM_LAYERS)
    for prepared in (first, second):
        evaluator.forget(prepared)
    assert not evaluator.executor.work.layers_run_by_row
