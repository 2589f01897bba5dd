"""The models, the pools in which they share limits, and the limits of each usage tier.

Models of one pool share the same buckets; pools do not affect each other. Names and grouping follow the
published rate-limit page of autumn 2026; a pool marked as a guess there is marked here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits of one pool, per minute. ``None`` means unlimited.

    Attributes:
        rpm: Requests per minute.
        itpm: Input tokens per minute (uncached input and cache writes; cache reads are free).
        otpm: Output tokens per minute (tokens actually generated).
    """

    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "itpm", "otpm"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 per minute, or None for unlimited, not {value}")


MODELS: Mapping[str, str] = MappingProxyType(
    {
        "claude-opus-5-5": "opus-5.5",
        "claude-opus-5": "opus-5",
        "claude-opus-4-8": "opus-4.x",
        "claude-opus-4-7": "opus-4.x",
        "claude-opus-4-6": "opus-4.x",
        "claude-opus-4-5": "opus-4.x",
        "claude-opus-4-5-20251101": "opus-4.x",
        "claude-sonnet-5-5": "sonnet-5.5",
        "claude-sonnet-5": "sonnet-5",
        "claude-sonnet-4-6": "sonnet-4.x",
        "claude-sonnet-4-5": "sonnet-4.x",
        "claude-sonnet-4-5-20250929": "sonnet-4.x",
        "claude-haiku-5-5": "haiku-5.5",
        "claude-haiku-4-5": "haiku-4.5",
        "claude-haiku-4-5-20251001": "haiku-4.5",
        "claude-fable-5-2": "fable-5.x",
        "claude-fable-5-1": "fable-5.x",
        "claude-fable-5": "fable-5.x",
        "claude-mythos-5-2": "mythos-5.x",
        "claude-mythos-5-1": "mythos-5.x",
        "claude-mythos-5": "mythos-5.x",
    }
)
"""The known model ids and their pools. Documented, except that 5.2 shares the pool of 5.1 (a guess)."""

POOLS: tuple[str, ...] = tuple(dict.fromkeys(MODELS.values()))
"""The pools, in the order of the model table."""

_SMALL_POOLS = ("fable-5.x", "mythos-5.x")


def _tier(usual: Rates, small: Rates) -> Mapping[str, Rates]:
    return MappingProxyType({pool: small if pool in _SMALL_POOLS else usual for pool in POOLS})


TIERS: Mapping[str, Mapping[str, Rates]] = MappingProxyType(
    {
        # A guess: the limits of the evaluation tier are not published. These are those of the old first tier.
        "evaluation": _tier(Rates(50, 50_000, 10_000), Rates(50, 30_000, 8_000)),
        "start": _tier(Rates(1_000, 2_000_000, 400_000), Rates(1_000, 500_000, 100_000)),
        "build": _tier(Rates(5_000, 5_000_000, 1_000_000), Rates(2_000, 1_500_000, 300_000)),
        "scale": _tier(Rates(10_000, 10_000_000, 2_000_000), Rates(4_000, 4_000_000, 800_000)),
    }
)
"""The limits by tier and pool. Start, build and scale are documented; evaluation and Mythos are guesses."""


def rates_of(pool: str, rates: Rates | Mapping[str, Rates], models: Mapping[str, str] = MODELS) -> Rates:
    """Look up the limits of one pool.

    Args:
        pool: The pool's name.
        rates: One set of limits, which applies to each pool separately, or limits by pool name or model id.
        models: The model ids and their pools.

    Returns:
        The pool's limits; unlimited if the mapping names neither the pool nor one of its models.
    """
    if isinstance(rates, Rates):
        return rates
    if pool in rates:
        return rates[pool]
    for model, its_pool in models.items():
        if its_pool == pool and model in rates:
            return rates[model]
    return Rates()
