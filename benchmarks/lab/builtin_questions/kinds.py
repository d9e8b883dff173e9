"""The kinds of built-in questions, made from tables and templates.

Nothing is drawn at random: whatever has to look random is ordered by a digest of its own text, so the set is the
same on every machine and under every version of Python, and a change to one table moves no other kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from . import facts

T = TypeVar("T")

TRAIN_SHARE = 0.6
CHOICE_WORD_PROBLEMS = 40
REFERENCE_WORD_PROBLEMS = 100
NUM_SEQUENCES = 30

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo")
THINGS = ("apples", "marbles", "stickers", "pencils", "shells", "cards", "buttons", "coins", "nuts", "stamps")


@dataclass(frozen=True, slots=True)
class Item:
    """A multiple-choice question before its choices are put in order."""

    prompt: str
    right: str
    wrong: tuple[str, ...]


def builtin_text() -> str:
    """The data file: one question a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows())


def _rows() -> Iterator[dict[str, Any]]:
    """Of each split, first the questions with choices, then those with a reference answer."""
    for split in ("train", "test"):
        yield from _choice_rows(split)
        first = CHOICE_WORD_PROBLEMS
        problems = [_word_problem(n) for n in range(first, first + REFERENCE_WORD_PROBLEMS)]
        for n, (prompt, answer) in enumerate(_part(problems, "math", split)):
            yield _row(split, "math", n) | {"prompt": prompt, "reference": str(answer)}


def _choice_rows(split: str) -> list[dict[str, Any]]:
    """Kinds are evenly mixed, so that the first N are a fair sample."""
    placed: list[tuple[float, str, dict[str, Any]]] = []
    for kind, make in KINDS.items():
        items = _part(make(), kind, split)
        for n, item in enumerate(items):
            choices = _shuffled((item.right, *item.wrong), item.prompt)
            content = {"prompt": item.prompt, "choices": choices, "gold": choices.index(item.right)}
            placed.append(((n + 0.5) / len(items), kind, _row(split, kind, n) | content))
    return [row for _, _, row in sorted(placed, key=lambda entry: entry[:2])]


def _row(split: str, kind: str, number: int) -> dict[str, Any]:
    return {"split": split, "kind": kind, "id": f"{split}-{kind}-{number:02d}"}


def _shuffled(items: Iterable[T], salt: str) -> list[T]:
    """The items in an order that looks random and depends on nothing but them and the salt."""
    return sorted(items, key=lambda item: hashlib.blake2b(f"{salt}\x1f{item}".encode()).digest())


def _part(items: list[T], kind: str, split: str) -> list[T]:
    """The items of one split; no row of a table is in both."""
    border = round(TRAIN_SHARE * len(items))
    shuffled = _shuffled(items, kind)
    return shuffled[:border] if split == "train" else shuffled[border:]


def _ask(template: str, table: dict[str, str], num_wrong: int = 3) -> list[Item]:
    """One item for each key of the table."""
    return [_item(template.format(key), right, table.values(), num_wrong) for key, right in table.items()]


def _item(prompt: str, right: str, answers: Iterable[str], num_wrong: int = 3) -> Item:
    """An item whose wrong choices are some of the answers to other questions of the kind."""
    others = sorted(set(answers) - {right})
    return Item(prompt, right, tuple(_shuffled(others, f"wrong {prompt}")[:num_wrong]))


def _science() -> list[Item]:
    return [Item(prompt, right, tuple(wrong)) for prompt, right, *wrong in facts.SCIENCE]


def _opposites() -> list[Item]:
    return _ask("What is the opposite of {}?", facts.OPPOSITES)


def _odd_ones_out() -> list[Item]:
    items = []
    for odd_kind, odd_things in facts.KINDS_OF_THINGS.items():
        for odd in odd_things:
            kind = _shuffled((k for k in facts.KINDS_OF_THINGS if k != odd_kind), odd)[0]
            alike = _shuffled(facts.KINDS_OF_THINGS[kind], odd)[:3]
            words = ", ".join(_shuffled((odd, *alike), f"odd {odd}"))
            items.append(Item(f"Which word does not belong with the others: {words}?", odd, tuple(alike)))
    return items


def _uses() -> list[Item]:
    return _ask("What is {} used for?", facts.USES)


def _jobs() -> list[Item]:
    return _ask("Who {}?", facts.JOBS)


def _materials() -> list[Item]:
    return _ask("What is {} usually made of?", facts.MATERIALS)


def _colours() -> list[Item]:
    return _ask("What is the usual colour of {}?", facts.COLOURS)


def _states() -> list[Item]:
    return _ask("At room temperature, is {} a solid, a liquid or a gas?", facts.STATES, num_wrong=2)


def _geography() -> list[Item]:
    capitals = _ask("What is the capital of {}?", facts.CAPITALS)
    return capitals + _ask("On which continent is {}?", facts.CONTINENTS, num_wrong=4)


def _analogies() -> list[Item]:
    items = []
    for relation in facts.ANALOGIES:
        pairs = list(relation.items())
        for (first, partner), (other, right) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
            prompt = f"{first} is to {partner} as {other} is to what?".capitalize()
            items.append(_item(prompt, right, relation.values()))
    return items


def _comparisons() -> list[Item]:
    items = []
    for comparative, right, wrong in facts.COMPARISONS:
        first, second = _shuffled((right, wrong), comparative)
        items.append(Item(f"Which is {comparative}, {first} or {second}?", right, (wrong,)))
    return items


def _calendar() -> list[Item]:
    items = []
    for what, names in (("day", DAYS), ("month", MONTHS)):
        for word, step in (("after", 1), ("before", -1)):
            table = {name: names[(position + step) % len(names)] for position, name in enumerate(names)}
            items += _ask(f"Which {what} comes right {word} {{}}?", table)
    return items


def _sequences() -> list[Item]:
    """Numbers that rise or fall by a constant step, never below zero."""
    steps = (-10, -5, -3, -2, 2, 3, 5, 10)
    ways = [(start, step) for step in steps for start in range(1, 60) if start + 4 * step >= 0]
    items = []
    for start, step in _shuffled(ways, "sequences")[:NUM_SEQUENCES]:
        *shown, following = (start + step * position for position in range(5))
        prompt = f"Which number comes next: {', '.join(map(str, shown))}?"
        items.append(Item(prompt, str(following), _wrong_numbers(following, prompt)))
    return items


def _word_problems() -> list[Item]:
    problems = [_word_problem(n) for n in range(CHOICE_WORD_PROBLEMS)]
    return [Item(prompt, str(answer), _wrong_numbers(answer, prompt)) for prompt, answer in problems]


def _word_problem(number: int) -> tuple[str, int]:
    """The word problem of this number, and its answer: one of six stories about small numbers."""
    name = _shuffled(NAMES, f"name {number}")[0]
    things = _shuffled(THINGS, f"things {number}")[0]
    a, b, c = _shuffled(range(2, 13), f"numbers {number}")[:3]
    stories = (
        (f"{name} has {a} {things} and finds {b} more. How many {things} does {name} have now?", a + b),
        (f"There are {a + b} {things} in a jar. {name} takes out {b}. How many {things} are left?", a),
        (f"{name} fills {a} bags with {b} {things} each. How many {things} are in the bags?", a * b),
        (f"{name} shares {a * b} {things} equally among {b} friends. How many {things} does each get?", a),
        (f"{name} had {a + b} {things}, lost {b} and won {c}. How many {things} does {name} have?", a + c),
        (f"{name} has {a} {things}. Her sister has {b} more than {name}. How many does her sister have?", a + b),
    )
    return stories[number % len(stories)]


def _wrong_numbers(right: int, salt: str) -> tuple[str, ...]:
    near = (right + offset for offset in (-10, -3, -2, -1, 1, 2, 3, 10))
    return tuple(str(number) for number in _shuffled((n for n in near if n >= 0), f"wrong {salt}")[:3])


KINDS: dict[str, Callable[[], list[Item]]] = {
    "science": _science,
    "opposite": _opposites,
    "odd": _odd_ones_out,
    "use": _uses,
    "job": _jobs,
    "material": _materials,
    "colour": _colours,
    "state": _states,
    "geography": _geography,
    "analogy": _analogies,
    "compare": _comparisons,
    "calendar": _calendar,
    "sequence": _sequences,
    "arithmetic": _word_problems,
}
