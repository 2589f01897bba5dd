"""What one request will probably take, before it is sent: the guess an executor begins with, for plans."""

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
    """What one request will probably take. Holds no text.

    Attributes:
        model: The model it asks for.
        pool: The pool of models whose limits it draws on.
        input_tokens: Input, as if nothing of it were cached.
        error: How far off that may be, as a share of it: one standard deviation, the same way for all
            requests of a kind of text. It is rather too much than too little.
        output_tokens: Output, of which nothing is known before there are answers.
        max_tokens: The most output there can be.
        prefix: Stands for the part of the request that is marked to be cached, if one is.
        prefix_tokens: Input in that part.
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
        """Estimate a request from what ``messages.create`` takes.

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
        """Say what a request will probably take, where it cannot be seen: in a call of somebody's function.

        `max_tokens` is the most output there can be; by default eight times what is expected.

        Raises:
            ValueError: A number is not positive, or there is no model.
        """
        if not model or not (input_tokens > 0 and output_tokens > 0):
            given = f"{model!r}, {input_tokens}, {output_tokens}"
            raise ValueError(f"an estimate needs a model and positive numbers, got {given}")
        return cls(
            model, pool_of(model), input_tokens, 0.0, output_tokens, max_tokens or round(8 * output_tokens)
        )

    def limits_in(self, limits: Limits | Mapping[str, Limits]) -> Limits:
        """Those of the limits, given as to an `Executor`, that the request draws on."""
        pools = normalized(limits)
        return pools.get(self.pool) or pools.get(DEFAULT) or Limits()
