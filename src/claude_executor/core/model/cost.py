"""Costs: what one request takes of an organization's limits.

The API counts requests, input tokens and output tokens per minute and family of models. The cost of a request
is an estimate until its answer arrives; then it is settled to the `usage` the answer reports.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import NamedTuple


class Resource(StrEnum):
    """A resource that is limited per minute.

    `TOKENS` is input and output together: no bucket of the API, but the one ``Limits(tpm=…)`` declares.
    """

    REQUESTS = "requests"
    INPUT = "input tokens"
    OUTPUT = "output tokens"
    TOKENS = "tokens"


class Cost(NamedTuple):
    """An amount of every resource.

    The pool keeps one margin for the sum of the variances of all requests in flight instead of padding each.

    Attributes:
        requests: Number of requests.
        input_tokens: Input tokens that count towards the limit.
        output_tokens: Output tokens.
        input_variance: Variance of the estimate of the input, in tokens squared.
        output_variance: Variance of the estimate of the output, in tokens squared.
    """

    requests: float
    input_tokens: float
    output_tokens: float
    input_variance: float = 0.0
    output_variance: float = 0.0


NOTHING = Cost(0.0, 0.0, 0.0)

Part = Callable[[Sequence[float]], float]
"""Function that reads a number off a cost, or off a sum of costs kept as a list."""

AMOUNT: Mapping[Resource, Part] = {
    Resource.REQUESTS: itemgetter(0),
    Resource.INPUT: itemgetter(1),
    Resource.OUTPUT: itemgetter(2),
    Resource.TOKENS: lambda cost: cost[1] + cost[2],
}
"""Readers of the amount of each resource. Look them up once, not for every request."""

VARIANCE: Mapping[Resource, Part] = {
    Resource.REQUESTS: lambda _: 0.0,
    Resource.INPUT: itemgetter(3),
    Resource.OUTPUT: itemgetter(4),
    Resource.TOKENS: lambda cost: cost[3] + cost[4],
}
"""Readers of the variance of the amount of each resource."""


class Usage(NamedTuple):
    """Real use of one answer, as the API reports it in `usage`.

    Input tokens are split because the API limits them differently: reads from the prompt cache are free of
    the input limit for all current models, writes to it are not. The last fields matter to prices only.

    Attributes:
        input_tokens: Input tokens neither read from nor written to the prompt cache.
        output_tokens: Output tokens.
        cache_creation_tokens: Input tokens written to the prompt cache.
        cache_read_tokens: Input tokens read from the prompt cache.
        cache_hour_tokens: The part of `cache_creation_tokens` that is kept for an hour instead of five
            minutes.
        searches: Web searches.
        speed: ``"fast"`` or ``"standard"``; None if the API does not say.
        geo: Region that served the request, ``"us"`` or ``"global"``; None if the API does not say.
        tier: ``"standard"``, ``"priority"`` or ``"batch"``; None if the API does not say.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0
    cache_hour_tokens: int = 0
    searches: int = 0
    speed: str | None = None
    geo: str | None = None
    tier: str | None = None

    def cost(self, *, cache_reads_count: bool = False) -> Cost:
        """Return the settled cost of one answered request."""
        charged = self.input_tokens + self.cache_creation_tokens
        if cache_reads_count:
            charged += self.cache_read_tokens
        return Cost(1.0, float(charged), float(self.output_tokens))

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum of both; speed, region and tier are those of `other`."""
        return other._replace(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_creation_tokens=self.cache_creation_tokens + other.cache_creation_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_hour_tokens=self.cache_hour_tokens + other.cache_hour_tokens,
            searches=self.searches + other.searches,
        )


NOTHING_USED = Usage()
