"""Estimates the cost of a request before it is sent, as an executor does before it has any answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Self

from claude_executor.core.control.cost_estimator import CostEstimator
from claude_executor.core.model.limits import DEFAULT, Limits, normalized, pool_of
from claude_executor.core.model.request import shape_of

_UNTAUGHT = CostEstimator()


@dataclass(frozen=True, slots=True)
class Estimate:
    """The probable cost of one request. Holds no text.

    Attributes:
        model: The model of the request.
        pool: The pool of models whose limits it draws on.
        input_tokens: Input tokens, as if nothing were cached.
        error: The standard deviation of `input_tokens`, as a fraction of it. The error is systematic: it is
            the same for all requests with the same kind of text. The estimate is rather too high than too
            low.
        output_tokens: Output tokens, a guess before there are answers.
        max_tokens: The most output tokens possible.
        prefix: A digest of the part of the request that is marked to be cached, if any.
        prefix_tokens: Input tokens in that part.
    """

    model: str
    pool: str
    input_tokens: float
    error: float
    output_tokens: float
    max_tokens: int
    prefix: bytes | None = None
    prefix_tokens: float = 0.0

    @classmethod
    def of(cls, params: Mapping[str, object]) -> Self:
        """Estimate a request from the arguments of ``messages.create``.

        Raises:
            ValueError: `params` cannot be a request.
        """
        shape = shape_of(params)
        cost = _UNTAUGHT.cost(shape)
        prefix_tokens = 0.0
        if shape.prefix is not None and shape.text_bytes:
            per_byte = (cost.input_tokens - shape.other_tokens) / shape.text_bytes
            prefix_tokens = per_byte * shape.prefix_bytes
        return cls(
            shape.model,
            pool_of(shape.model),
            cost.input_tokens,
            sqrt(cost.input_variance) / cost.input_tokens if cost.input_tokens else 0.0,
            cost.output_tokens,
            shape.max_tokens,
            shape.prefix,
            prefix_tokens,
        )

    @classmethod
    def about(
        cls, model: str, *, input_tokens: float, output_tokens: float, max_tokens: int | None = None
    ) -> Self:
        """Declare the probable cost of a request that cannot be seen: one that a function will make.

        `max_tokens` is the most output tokens possible; by default eight times `output_tokens`.

        Raises:
            ValueError: A number is not positive, or the model is empty.
        """
        if not model or not (input_tokens > 0 and output_tokens > 0):
            given = f"{model!r}, {input_tokens}, {output_tokens}"
            raise ValueError(f"an estimate needs a model and positive numbers, got {given}")
        return cls(
            model, pool_of(model), input_tokens, 0.0, output_tokens, max_tokens or round(8 * output_tokens)
        )

    def limits_in(self, limits: Limits | Mapping[str, Limits]) -> Limits:
        """Return the limits that the request draws on, out of limits as an `Executor` takes them."""
        pools = normalized(limits)
        return pools.get(self.pool) or pools.get(DEFAULT) or Limits()
