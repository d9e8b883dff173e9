"""Tasks: the tokens that a question becomes, and the margin of gold over the other choices."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pathgen.errors import InputError
from pathgen.questions.question import Question
from pathgen.questions.tasks import LETTERS, TASKS, Task, choice_margin, find_task

CHOICE = Question("q", "Which one?", choices=("ab", "b", "abc"), gold=1)
REFERENCE = Question("q", "How many?", reference="12")
CHAT = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}\n{% endfor %}<assistant>"


def tokenizer_with(*merges: tuple[str, str], chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a few merges; `Ġ` is a space."""
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    vocabulary = {"<bos>": 0, **{symbol: index + 1 for index, symbol in enumerate(symbols)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT if chat else None)


def texts(tokenizer: PreTrainedTokenizerFast, continuations: list[list[int]]) -> list[str]:
    return [str(tokenizer.decode(tokens)) for tokens in continuations]


@pytest.mark.parametrize(
    ("task", "question", "prompt"),
    [
        ("arc", CHOICE, "Question: Which one?\nAnswer:"),
        ("arc-letter", CHOICE, "Question: Which one?\nA. ab\nB. b\nC. abc\nAnswer:"),
        ("math", REFERENCE, "Question: How many?\nAnswer:"),
    ],
)
def test_prompts(task: str, question: Question, prompt: str) -> None:
    assert find_task(task).prompt(question) == prompt


@pytest.mark.parametrize(
    ("task", "question", "continuations"),
    [
        ("arc", CHOICE, [" ab", " b", " abc"]),
        ("arc-letter", CHOICE, [" A", " B", " C"]),
        ("math", REFERENCE, [" 12"]),
    ],
)
def test_a_continuation_begins_with_the_space(task: str, question: Question, continuations: list[str]) -> None:
    tokenizer = tokenizer_with(("Ġ", "a"), ("Ġa", "b"), ("1", "2"))
    ids, found = find_task(task).encode(question, tokenizer, chat=False)
    assert tokenizer.decode(ids) == find_task(task).prompt(question)
    assert texts(tokenizer, found) == continuations


def test_a_continuation_is_what_the_whole_text_has_beyond_the_prompts_tokens() -> None:
    """As lm-evaluation-harness splits: also where the space belongs to a token of the prompt's last character."""
    tokenizer = tokenizer_with((":", "Ġ"), ("a", "b"))
    ids, found = find_task("arc").encode(CHOICE, tokenizer, chat=False)
    assert ids == tokenizer("Question: Which one?\nAnswer:")["input_ids"]
    assert ids[-1] == tokenizer.convert_tokens_to_ids(":")
    assert texts(tokenizer, found) == ["ab", "b", "abc"]


def test_a_chat_puts_the_prompt_into_the_users_turn_and_the_answer_into_the_assistants() -> None:
    tokenizer = tokenizer_with(chat=True)
    ids, found = find_task("arc").encode(CHOICE, tokenizer, chat=True)
    assert tokenizer.decode(ids) == "<user>Question: Which one?\nAnswer:\n<assistant>"
    assert texts(tokenizer, found) == ["ab", "b", "abc"]


def test_a_chat_adds_no_special_tokens_to_those_of_the_template() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_with(chat=True)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 0)])
    assert find_task("math").encode(REFERENCE, tokenizer, chat=False)[0][0] == 0
    assert find_task("math").encode(REFERENCE, tokenizer, chat=True)[0][0] != 0


def test_a_chat_needs_a_template() -> None:
    with pytest.raises(InputError, match="--no-chat"):
        find_task("arc").encode(CHOICE, tokenizer_with(), chat=True)


@pytest.mark.parametrize("count", [2, 3, 25, 26])
def test_letters(count: int) -> None:
    question = Question("q", "Which?", choices=tuple(f"text {n}" for n in range(count)), gold=count - 1)
    task = find_task("arc-letter")
    assert task.continuations(question) == list(LETTERS[:count])
    lines = task.prompt(question).splitlines()
    assert len(lines) == count + 2
    assert lines[count] == f"{LETTERS[count - 1]}. text {count - 1}"


def test_choices_that_are_numbers_are_listed_by_letter() -> None:
    question = Question("q", "2 + 2?", choices=("3", "4"), gold=1)
    assert find_task("arc-letter").prompt(question) == "Question: 2 + 2?\nA. 3\nB. 4\nAnswer:"
    assert find_task("arc").continuations(question) == ["3", "4"]


def test_only_math_generates() -> None:
    assert {name for name, task in TASKS.items() if task.generates} == {"math"}


def test_an_unknown_task_is_answered_with_the_list() -> None:
    with pytest.raises(InputError, match="'art': choose from arc, arc-letter, math"):
        find_task("art")


def test_what_shapes_prompts_and_grades_is_described() -> None:
    described = find_task("arc-letter").describe(chat=True)
    assert described["template"] == "Question: {question}\nA. {choice}\nB. {choice}\nAnswer:"
    assert described["chat"] is True
    for other in (Task("math", "reference", max_new_tokens=31, stop=("\n",)), Task("math", "reference", stop=())):
        assert other.describe(chat=False) != find_task("math").describe(chat=False)


@pytest.mark.parametrize(
    ("choices", "gold", "margin"),
    [
        (("a", "b", "c"), 0, -1.0),
        (("a", "b", "c"), 1, 1.0),
        (("a", "b", "c"), 2, -4.0),
        (("a", "b", "a"), 0, -1.0),
        (("b", "b", "a"), 0, 3.0),  # the second `b` is gold's own text, not a rival
        (("a", "a", "a"), 1, float("inf")),
    ],
)
def test_choice_margin(choices: tuple[str, ...], gold: int, margin: float) -> None:
    assert choice_margin([-2.0, -1.0, -5.0], choices, gold) == margin
