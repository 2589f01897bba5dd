"""Work for the scenarios. Every maker gives a function from chance and a number of rows to `Work`."""

import random
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, Literal

from claude_executor.cli.commands.demo_prompts import docstrings as stdlib_docstrings
from claude_executor.simulator.messages.prompts import PromptReader
from claude_executor.simulator.messages.tokens import TokenCounter
from claude_executor.simulator.world.settings import Settings

Prompt = dict[str, Any]
MODEL = "claude-haiku-5-5"
URGENT = 10
"""Priority of interactive requests."""
_MOST_URGENT = 600
"""Interactive requests that are prepared; those that have not come when the bulk is done do not come."""
_PRESS = 2.0
"""How many times faster than the limit small requests come where they are to keep a large one waiting."""


@dataclass(frozen=True)
class Work:
    """What a client has to do.

    Attributes:
        prompts: Parameters for `messages.create`.
        at: When each of them comes, in seconds after the start; empty: all at the start.
        priorities: Of each of them; empty: they have none.
        large: The number of the one whose start is timed, if there is one.
    """

    prompts: list[Prompt]
    at: tuple[float, ...] = ()
    priorities: tuple[int, ...] = ()
    large: int | None = None


Maker = Callable[[random.Random, int], Work]


def _prompt(number: int, text: str, max_tokens: int) -> Prompt:
    return {
        "model": MODEL,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
        "metadata": {"user_id": row_id(number)},
    }


def row_id(number: int) -> str:
    """By what the server tells rows apart."""
    return f"row-{number}"


def input_tokens(prompt: Prompt) -> int:
    """How many the server will find in it."""
    read = _reader().read("", "", prompt)
    return int(read.tokens)  # type: ignore[union-attr]  # what we make is valid


@cache
def _reader() -> PromptReader:
    return PromptReader(Settings(), TokenCounter())


@cache
def _texts() -> tuple[str, ...]:
    return tuple(stdlib_docstrings())


@cache
def _corpus() -> str:
    return "\n\n".join(_texts())


@cache
def _words() -> list[str]:
    return _corpus().split()


def _cut_out(chance: random.Random, size: int) -> str:
    """So many letters from anywhere in the corpus."""
    start = chance.randrange(len(_corpus()) - size)
    return _corpus()[start : start + size]


def docstrings(*, max_tokens: int = 256) -> Maker:
    """Summaries of the standard library's docstrings, drawn at random."""

    def make(chance: random.Random, count: int) -> Work:
        return Work([_summary(chance, i, max_tokens) for i in range(count)])

    return make


def _summary(chance: random.Random, number: int, max_tokens: int) -> Prompt:
    return _prompt(number, f"Summarise this documentation:\n\n{chance.choice(_texts())}", max_tokens)


def heavy_tailed(*, order: Literal["shuffled", "sorted"] = "shuffled") -> Maker:
    """Docstrings joined into prompts of log-normal size: most are short, a few are fifty times as long."""

    def make(chance: random.Random, count: int) -> Work:
        sizes = (int(min(40_000, max(40, chance.lognormvariate(6.0, 1.1)))) for _ in range(count))
        prompts = [_prompt(i, _cut_out(chance, size), 256) for i, size in enumerate(sizes)]
        if order == "sorted":
            prompts.sort(key=lambda p: len(p["messages"][0]["content"]))
        return Work(prompts)

    return make


def two_kinds(*, order: Literal["shuffled", "by kind"]) -> Maker:
    """A third long documents, two thirds short questions; first the ones and then the others, or mixed."""

    def make(chance: random.Random, count: int) -> Work:
        sizes = (5_200 if i < count // 3 else 120 for i in range(count))
        prompts = [_prompt(i, _cut_out(chance, size), 256) for i, size in enumerate(sizes)]
        if order == "shuffled":
            chance.shuffle(prompts)
        return Work(prompts)

    return make


def uniform(*, input_words: int) -> Maker:
    """Prompts of one size."""

    def make(chance: random.Random, count: int) -> Work:
        return Work([_of_words(chance, i, input_words) for i in range(count)])

    return make


def _of_words(chance: random.Random, number: int, input_words: int) -> Prompt:
    words = _words()
    start = chance.randrange(len(words) - input_words)
    return _prompt(number, " ".join(words[start : start + input_words]), 64)


def interactive_beside_bulk(*, every: float) -> Maker:
    """Bulk rows, all there at the start, and a request of higher priority every so many seconds."""

    def make(chance: random.Random, count: int) -> Work:
        prompts = [_summary(chance, i, 256) for i in range(count + _MOST_URGENT)]
        at = (0.0,) * count + tuple(every * (i + 1) for i in range(_MOST_URGENT))
        return Work(prompts, at, (0,) * count + (URGENT,) * _MOST_URGENT)

    return make


def large_among_small(*, tokens: int, at: float, rate: float) -> Maker:
    """Small prompts at twice the `rate` (input tokens a second), and after `at` seconds a large one."""

    def make(chance: random.Random, count: int) -> Work:
        small = [_of_words(chance, i, 160) for i in range(count)]
        before = accumulate((input_tokens(prompt) for prompt in small), initial=0)
        times = [so_far / (_PRESS * rate) for so_far, _ in zip(before, small, strict=False)]
        place = bisect(times, at)
        prompts = [*small[:place], _of_tokens(chance, count, tokens), *small[place:]]
        return Work(prompts, (*times[:place], at, *times[place:]), large=place)

    return make


def _of_tokens(chance: random.Random, number: int, tokens: int) -> Prompt:
    """A prompt of so many input tokens, more or less."""
    start = chance.randrange(len(_corpus()))
    endless = (_corpus()[start:] + _corpus()[:start]) * (8 * tokens // len(_corpus()) + 1)
    size = 4 * tokens
    for _ in range(4):  # the ratio of letters to tokens differs from place to place
        text = endless[:size]
        prompt = _prompt(number, text, 64)
        size = size * tokens // input_tokens(prompt)
    return prompt
