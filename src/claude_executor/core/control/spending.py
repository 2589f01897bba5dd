"""Spending caps: what all requests together may cost, in money or in tokens.

A request reserves the worst case of its next attempt: its text at one token a byte (no tokenizer yields
more), everything else at several times its estimate, and `max_tokens` of output. A reservation counts as
spent until the answer reports the real use. So spending never exceeds the cap, however many requests are in
flight. Near the cap fewer are, and the last ones go one at a time.

A failed attempt of unknown use may have been billed, so its whole reservation counts as spent.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.job import Job
from claude_executor.core.model.request import RequestShape

Price = Callable[[str, Usage], float]

MAX_OTHER_FACTOR = 3
"""Worst case of images, documents and hidden prompts, as a multiple of their estimate."""


def all_tokens(model: str, usage: Usage) -> float:
    """Return the tokens of a request, input and output; the price for caps on tokens."""
    del model
    inputs = usage.input_tokens + usage.cache_creation_tokens + usage.cache_read_tokens
    return float(inputs + usage.output_tokens)


@dataclass(frozen=True, slots=True)
class SpendingCap:
    """Cap on what all requests of an executor together may cost.

    Attributes:
        amount: The cap, in `unit`.
        price: Function of a model and a usage that returns the cost of a request, in `unit`.
        unit: Name of the unit, shown to people.
    """

    amount: float
    price: Price = all_tokens
    unit: str = "tokens"

    def __post_init__(self) -> None:
        if not (self.amount > 0 and math.isfinite(self.amount)):
            raise ValueError(f"a spending cap must be a positive number, got {self.amount!r}")

    def worst_case(self, shape: RequestShape) -> float:
        """Return the most one attempt can cost: with its input read, or written to the cache for an hour."""
        inputs, outputs = shape.max_text_tokens + MAX_OTHER_FACTOR * shape.other_tokens, shape.max_tokens
        written = Usage(0, outputs, cache_creation_tokens=inputs, cache_hour_tokens=inputs)
        return max(self.price(shape.model, Usage(inputs, outputs)), self.price(shape.model, written))


class SpendingCaps:
    """Amounts spent and reserved under each of several caps."""

    __slots__ = ("_caps", "_in_flight", "_reserved", "_spent")

    def __init__(self, caps: Iterable[SpendingCap]) -> None:
        self._caps = tuple(caps)
        self._spent = [0.0] * len(self._caps)
        self._reserved = [0.0] * len(self._caps)
        self._in_flight = 0

    @property
    def any(self) -> bool:
        """Whether any cap is set."""
        return bool(self._caps)

    def set_worst_case(self, job: Job) -> None:
        """Set `job.worst_case` for the next attempt."""
        if self._caps:
            job.worst_case = tuple(cap.worst_case(job.shape) for cap in self._caps)

    def fits(self, job: Job) -> bool:
        """Whether the worst case of the next attempt fits under every cap."""
        return all(
            spent + reserved + most <= cap.amount
            for cap, spent, reserved, most in zip(
                self._caps, self._spent, self._reserved, job.worst_case, strict=True
            )
        )

    def could_fit(self, job: Job) -> bool:
        """Whether the next attempt would fit if everything in flight cost nothing."""
        return all(
            spent + most <= cap.amount
            for cap, spent, most in zip(self._caps, self._spent, job.worst_case, strict=True)
        )

    def reserve(self, job: Job) -> None:
        """Reserve the worst case of an attempt that starts."""
        self._in_flight += 1
        for i, most in enumerate(job.worst_case):
            self._reserved[i] += most

    def settle(self, job: Job, usage: Usage | None) -> None:
        """Settle an attempt at its `usage`; None, if unknown, counts the worst case."""
        self._in_flight -= 1
        for i, most in enumerate(job.worst_case):
            # With nothing in flight the rest is rounding, which could keep the last request from fitting.
            self._reserved[i] = self._reserved[i] - most if self._in_flight else 0.0
            self._spent[i] += most if usage is None else self._caps[i].price(job.shape.model, usage)

    def spent(self) -> tuple[float, ...]:
        """Return the amount spent under each cap, in the order of the caps."""
        return tuple(self._spent)
