"""What one request takes of an organisation's limits.

Claude counts three things a minute for each family of models: requests, input tokens and output tokens.
Before a request is sent its cost is an estimate; afterwards it is settled to what `usage` says.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import NamedTuple, cast


class Resource(StrEnum):
    """A thing that is limited by the minute.

    `TOKENS` is input and output together: no bucket of the API, but what ``Limits(tpm=…)`` asks for.
    """

    REQUESTS = "requests"
    INPUT = "input tokens"
    OUTPUT = "output tokens"
    TOKENS = "tokens"


class Cost(NamedTuple):
    """An amount of every resource.

    The variances (tokens squared) say how unsure the guesses are; the pool keeps one margin for the sum of
    them over all requests in flight instead of padding each request.
    """

    requests: float
    input_tokens: float
    output_tokens: float
    input_variance: float = 0.0
    output_variance: float = 0.0


NOTHING = Cost(0.0, 0.0, 0.0)

Part = Callable[[Sequence[float]], float]
"""Reads a number off a cost, or off a sum of costs that is kept as a list."""

AMOUNT: Mapping[Resource, Part] = {
    Resource.REQUESTS: itemgetter(0),
    Resource.INPUT: itemgetter(1),
    Resource.OUTPUT: itemgetter(2),
    Resource.TOKENS: lambda cost: cost[1] + cost[2],
}
"""Reads the amount of a resource off a cost. Looked up once, not for every request."""

VARIANCE: Mapping[Resource, Part] = {
    Resource.REQUESTS: lambda _: 0.0,
    Resource.INPUT: itemgetter(3),
    Resource.OUTPUT: itemgetter(4),
    Resource.TOKENS: lambda cost: cost[3] + cost[4],
}
"""Reads off how unsure the amount of a resource is."""


class Usage(NamedTuple):
    """What one answer really took, as the API reports it in `usage`.

    Input tokens come apart because Claude limits them apart: reads from the prompt cache are free of the
    input limit for all current models, writes to it are not. How it was served is of no interest to limits,
    but to prices.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0
    cache_hour_tokens: int = 0
    """Those of `cache_creation_tokens` that are kept for an hour instead of five minutes."""
    searches: int = 0
    """Searches in the web."""
    speed: str | None = None
    """``"fast"`` or ``"standard"``; `None` where the API does not say, as the next two."""
    geo: str | None = None
    """Where it was served: ``"us"``, ``"global"``."""
    tier: str | None = None
    """``"standard"``, ``"priority"`` or ``"batch"``."""

    @classmethod
    def from_api(cls, usage: object) -> "Usage":
        """Read the `usage` of an answer. A field that is missing or of the wrong type counts as nothing.

        The SDK does not validate answers, proxies leave fields out, and some know only two of the counts.

        Args:
            usage: The API's `usage`: parsed JSON, or an object of the SDK.
        """
        read = _fields_of(usage)
        written, tools = read("cache_creation"), read("server_tool_use")
        speed, geo, tier = read("speed"), read("inference_geo"), read("service_tier")
        return cls(
            _count(read("input_tokens")),
            _count(read("output_tokens")),
            _count(read("cache_creation_input_tokens")),
            _count(read("cache_read_input_tokens")),
            _count(_fields_of(written)("ephemeral_1h_input_tokens")) if written is not None else 0,
            _count(_fields_of(tools)("web_search_requests")) if tools is not None else 0,
            speed if isinstance(speed, str) else None,
            geo if isinstance(geo, str) else None,
            tier if isinstance(tier, str) else None,
        )

    def cost(self, *, cache_reads_count: bool = False) -> Cost:
        """The settled cost of one answered request."""
        charged = self.input_tokens + self.cache_creation_tokens
        if cache_reads_count:
            charged += self.cache_read_tokens
        return Cost(1.0, float(charged), float(self.output_tokens))

    def plus(self, other: "Usage") -> "Usage":
        """Both together, served as the other one was."""
        return other._replace(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_creation_tokens=self.cache_creation_tokens + other.cache_creation_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_hour_tokens=self.cache_hour_tokens + other.cache_hour_tokens,
            searches=self.searches + other.searches,
        )


NOTHING_USED = Usage()

_MOST_TOKENS = 10**15
"""A larger count is no measurement."""


def _fields_of(holder: object) -> Callable[[str], object]:
    """Return a function that reads a field of parsed JSON or of an object: None if there is no such field."""
    if isinstance(holder, dict):
        return cast("dict[str, object]", holder).get
    return lambda name: getattr(holder, name, None)


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < _MOST_TOKENS else 0
