"""The fixed properties of a simulated organization: limits, latency, keys, models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from claude_executor.simulator.world.models import MODELS, TIERS, Rates

ADMIN_KEY = "sk-ant-admin-simulator"
"""The default key for ``/v1/organizations/rate_limits``."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The time an answer takes. The default is none, so that tests decide what they wait for.

    Attributes:
        first_token: Seconds from admission to the first token.
        tokens_per_second: Speed of generation; infinite means all at once.
        spread: Relative spread of both, as the sigma of a log-normal factor with median 1. 0 means none.
    """

    first_token: float = 0.0
    tokens_per_second: float = math.inf
    spread: float = 0.0

    def __post_init__(self) -> None:
        if self.first_token < 0 or self.tokens_per_second <= 0 or self.spread < 0:
            raise ValueError(
                "first_token and spread must not be negative, tokens_per_second must be positive"
            )


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of answers: log-normal, and determined by the prompt and the seed alone.

    Attributes:
        mean: Mean length in output tokens, before ``max_tokens`` cuts it.
        sigma: Sigma of the logarithm; 0 makes every answer ``mean`` tokens long.
    """

    mean: float = 200.0
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if self.mean < 1 or self.sigma < 0:
            raise ValueError("mean must be at least 1 token and sigma must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One simulated organization.

    Attributes:
        rates: Limits per minute: one ``Rates``, which applies to each pool separately, or a mapping by pool
            or model. Pools that the mapping leaves out are unlimited.
        burst: Capacity of every bucket, in seconds of its limit. The API's figure is not published.
        window: Capacity in seconds of a second, hidden bucket for requests, which no header shows; ``None``
            for none. The documentation warns that 60 per minute may be enforced as 1 per second.
        oversized: The rule for a request larger than a whole bucket: ``"when-full"`` admits it when the
            bucket is full and leaves a debt, ``"never"`` always rejects it. The API's rule is not documented.
        estimate_error: Largest relative error of the input estimate that decides on admission; the error of a
            prompt is fixed. The documentation mentions an estimate, but not its method.
        reserve_max_tokens: Whether ``max_tokens`` is taken from the output bucket at admission and the rest
            returned at the end: the API's rule until February 2026, and still that of some clouds.
        failures_consume: Whether a request that ends in a 5xx, a 529 or a reset counts against the limits.
            Not documented.
        latency: The time an answer takes.
        output_tokens: The lengths of answers.
        headers: Whether ``anthropic-ratelimit-*`` headers are sent. ``retry-after`` always is.
        count_tokens_rpm: Requests per minute of ``/v1/messages/count_tokens``, a limit of its own; ``None``
            for no limit.
        cache_minimum: Shortest prefix in tokens that the prompt cache keeps; shorter marks are ignored.
        keys: The accepted API keys; ``None`` accepts any that is not empty.
        admin_key: The key for ``/v1/organizations/rate_limits``.
        models: The known model ids and their pools; any other model is a 404.
        context_window: Longest prompt in tokens; a longer one is a 400.
        seed: The seed of all randomness.
    """

    rates: Rates | Mapping[str, Rates] = field(default_factory=lambda: TIERS["start"])
    burst: float = 60.0
    window: float | None = None
    oversized: Literal["when-full", "never"] = "when-full"
    estimate_error: float = 0.0
    reserve_max_tokens: bool = False
    failures_consume: bool = False
    latency: Latency = Latency()
    output_tokens: Lengths = Lengths()
    headers: bool = True
    count_tokens_rpm: int | None = 5_000
    cache_minimum: int = 1_024
    keys: frozenset[str] | None = None
    admin_key: str = ADMIN_KEY
    models: Mapping[str, str] = field(default_factory=lambda: MODELS)
    context_window: int = 1_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.burst <= 0 or (self.window is not None and self.window <= 0):
            raise ValueError("burst and window are spans of seconds and must be positive")
        if not 0 <= self.estimate_error < 1:
            raise ValueError("estimate_error must be at least 0 and below 1")

    @classmethod
    def lenient(cls, rates: Rates | Mapping[str, Rates] | None = None) -> Self:
        """Return settings with a minute of burst in every bucket, the most generous reading of the docs.

        Args:
            rates: Limits per minute; the default is the start tier's.
        """
        return cls() if rates is None else cls(rates=rates)

    @classmethod
    def strict(cls, rates: Rates | Mapping[str, Rates] | None = None) -> Self:
        """Return lenient settings that also limit requests per second, as the documentation warns.

        Args:
            rates: Limits per minute; the default is the start tier's.
        """
        return replace(cls.lenient(rates), window=1.0)
