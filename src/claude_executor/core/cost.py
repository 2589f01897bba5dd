"""What one request takes of an organisation's limits.

Claude counts three things a minute for each family of models: requests, input tokens and output tokens.
Before a request is sent its cost is an estimate; afterwards it is settled to what `usage` says.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


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

    def of(self, resource: Resource) -> float:
        """The amount of one resource."""
        if resource is Resource.REQUESTS:
            return self.requests
        if resource is Resource.INPUT:
            return self.input_tokens
        if resource is Resource.OUTPUT:
            return self.output_tokens
        return self.input_tokens + self.output_tokens

    def variance_of(self, resource: Resource) -> float:
        """How unsure the amount of one resource is."""
        if resource is Resource.REQUESTS:
            return 0.0
        if resource is Resource.INPUT:
            return self.input_variance
        if resource is Resource.OUTPUT:
            return self.output_variance
        return self.input_variance + self.output_variance


NOTHING = Cost(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens one answer really took, as the API reports them in `usage`.

    Input tokens come apart because Claude limits them apart: reads from the prompt cache are free of the
    input limit for all current models, writes to it are not.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0

    def cost(self, *, cache_reads_count: bool = False) -> Cost:
        """The settled cost of one answered request."""
        charged = self.input_tokens + self.cache_creation_tokens
        if cache_reads_count:
            charged += self.cache_read_tokens
        return Cost(1.0, float(charged), float(self.output_tokens))
