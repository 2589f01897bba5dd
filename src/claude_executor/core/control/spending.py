"""Caps on what all requests together may cost, in money or in tokens.

A request reserves the most that its next attempt can cost: its text at one token a byte (no tokeniser yields
more), everything else at several times its estimate, and `max_tokens` of output. What is reserved counts as
spent until the answer tells. So what is spent never passes the cap, however many requests are in flight; near
the cap there are fewer of them, and the last ones go one at a time.

An attempt that failed without the API saying what it took may have been charged: its reservation is spent.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.job import Job
from claude_executor.core.model.request import RequestShape

Price = Callable[[str, Usage], float]

OTHER_MOST = 3
"""Images, documents and hidden prompts are at most so many times what is estimated for them."""


def all_tokens(model: str, usage: Usage) -> float:
    """Every token of a request, whatever it costs; a price for caps on tokens."""
    del model
    inputs = usage.input_tokens + usage.cache_creation_tokens + usage.cache_read_tokens
    return float(inputs + usage.output_tokens)


@dataclass(frozen=True, slots=True)
class SpendingCap:
    """What all requests of an executor together may cost, at most.

    Attributes:
        amount: The cap.
        price: What a request of a model that took so many tokens costs, in the unit of `amount`.
        unit: The unit, for people.
    """

    amount: float
    price: Price = all_tokens
    unit: str = "tokens"

    def __post_init__(self) -> None:
        if not (self.amount > 0 and math.isfinite(self.amount)):
            raise ValueError(f"a spending cap must be a positive number, got {self.amount!r}")

    def worst_case(self, shape: RequestShape) -> float:
        """What one attempt can cost at most: with its input read, or written to the cache for an hour."""
        inputs, outputs = shape.max_text_tokens + OTHER_MOST * shape.other_tokens, shape.max_tokens
        written = Usage(0, outputs, cache_creation_tokens=inputs, cache_hour_tokens=inputs)
        return max(self.price(shape.model, Usage(inputs, outputs)), self.price(shape.model, written))


class SpendingCaps:
    """What is spent and reserved under each of several caps."""

    __slots__ = ("_caps", "_in_flight", "_reserved", "_spent")

    def __init__(self, caps: Iterable[SpendingCap]) -> None:
        self._caps = tuple(caps)
        self._spent = [0.0] * len(self._caps)
        self._reserved = [0.0] * len(self._caps)
        self._in_flight = 0

    @property
    def any(self) -> bool:
        """Whether there is any cap."""
        return bool(self._caps)

    def set_worst_case(self, job: Job) -> None:
        """Work out what the next attempt of `job` can cost at most."""
        if self._caps:
            job.worst_case = tuple(cap.worst_case(job.shape) for cap in self._caps)

    def fits(self, job: Job) -> bool:
        """Whether the next attempt of `job` is surely within every cap."""
        return all(
            spent + reserved + most <= cap.amount
            for cap, spent, reserved, most in zip(
                self._caps, self._spent, self._reserved, job.worst_case, strict=True
            )
        )

    def could_fit(self, job: Job) -> bool:
        """Whether it might be, if what is in flight should cost nothing."""
        return all(
            spent + most <= cap.amount
            for cap, spent, most in zip(self._caps, self._spent, job.worst_case, strict=True)
        )

    def reserve(self, job: Job) -> None:
        """An attempt starts."""
        self._in_flight += 1
        for i, most in enumerate(job.worst_case):
            self._reserved[i] += most

    def settle(self, job: Job, usage: Usage | None) -> None:
        """The attempt is over and took `usage`; `None` where that is not known."""
        self._in_flight -= 1
        for i, most in enumerate(job.worst_case):
            # With nothing in flight what is left is rounding, which may be all that a last request lacks.
            self._reserved[i] = self._reserved[i] - most if self._in_flight else 0.0
            self._spent[i] += most if usage is None else self._caps[i].price(job.shape.model, usage)

    def spent(self) -> tuple[float, ...]:
        """What is spent under each cap, in their order."""
        return tuple(self._spent)
