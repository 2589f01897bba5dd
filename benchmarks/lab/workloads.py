"""Work for the scenarios. Every maker takes how much, and gives a function from chance to a list."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from claude_executor.cli.docstrings import docstrings as stdlib_docstrings

Prompt = dict[str, Any]
MODEL = "claude-haiku-5-5"


def _prompt(number: int, text: str, max_tokens: int) -> Prompt:
    return {
        "model": MODEL,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
        "metadata": {"user_id": f"row-{number}"},
    }


@cache
def _texts() -> tuple[str, ...]:
    return tuple(stdlib_docstrings())


def docstrings(count: int, *, max_tokens: int = 256) -> Callable[[random.Random], list[Prompt]]:
    """Summaries of the standard library's docstrings, drawn at random."""

    def make(chance: random.Random) -> list[Prompt]:
        texts = _texts()
        return [
            _prompt(i, f"Summarise this documentation:\n\n{chance.choice(texts)}", max_tokens)
            for i in range(count)
        ]

    return make


def heavy_tailed(
    count: int, *, order: Literal["shuffled", "sorted"] = "shuffled"
) -> Callable[[random.Random], list[Prompt]]:
    """Docstrings joined into prompts of log-normal size: most are short, a few are fifty times as long."""

    def make(chance: random.Random) -> list[Prompt]:
        corpus = "\n\n".join(_texts())
        prompts = []
        for i in range(count):
            size = int(min(40_000, max(40, chance.lognormvariate(6.0, 1.1))))
            start = chance.randrange(len(corpus) - size)
            prompts.append(_prompt(i, corpus[start : start + size], 256))
        if order == "sorted":
            prompts.sort(key=lambda p: len(p["messages"][0]["content"]))
        return prompts

    return make


def two_kinds(
    count: int, *, order: Literal["shuffled", "by kind"]
) -> Callable[[random.Random], list[Prompt]]:
    """A third long documents, two thirds short questions; first the ones and then the others, or mixed."""

    def make(chance: random.Random) -> list[Prompt]:
        corpus = "\n\n".join(_texts())
        prompts = []
        for i in range(count):
            size = 5_200 if i < count // 3 else 120
            start = chance.randrange(len(corpus) - size)
            prompts.append(_prompt(i, corpus[start : start + size], 256))
        if order == "shuffled":
            chance.shuffle(prompts)
        return prompts

    return make


def uniform(count: int, *, input_words: int) -> Callable[[random.Random], list[Prompt]]:
    """Prompts of one size."""

    def make(chance: random.Random) -> list[Prompt]:
        words = " ".join(_texts()).split()
        prompts = []
        for i in range(count):
            start = chance.randrange(len(words) - input_words)
            prompts.append(_prompt(i, " ".join(words[start : start + input_words]), 64))
        return prompts

    return make
