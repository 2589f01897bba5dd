"""Declared limits, and the pools of models that share them.

A limit is an amount per minute. Limits that are not declared are discovered from the API's response headers.
A declared limit is a ceiling: the smaller of the two holds.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from claude_executor.core.model.cost import Resource

DEFAULT = "*"
"""Key, in a mapping of limits, for every pool that has no entry of its own."""
COUNT_TOKENS = "count_tokens"
"""Key, in a mapping of limits, for token-counting requests: one limit for all models."""


class LimitSource(StrEnum):
    """Source of a limit in force."""

    UNKNOWN = "not known"
    DECLARED = "declared"
    HEADERS = "response headers"


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings for one pool of models. None means undeclared: learn it from the API.

    Attributes:
        rpm: Requests per minute.
        tpm: Input and output tokens together per minute: one combined bucket.
        itpm: Input tokens per minute (reads from the prompt cache are free, as at the API).
        otpm: Output tokens per minute (those really produced; `max_tokens` is not counted).
        burst: Seconds of refill that a full bucket holds. The API does not publish it; 60 is assumed until
            headers or refusals show less.

    Raises:
        ValueError: A limit is not a positive, finite number.
    """

    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    burst: float | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "itpm", "otpm", "burst"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                unit = "seconds" if name == "burst" else "a minute"
                raise ValueError(
                    f"{name} must be a positive number ({unit}), got {value!r}; "
                    "leave it out to learn it from the API"
                )

    def by_resource(self) -> "tuple[tuple[Resource, float | None], ...]":
        """Return the limit of each resource per minute; None where none is declared."""
        return (
            (Resource.REQUESTS, self.rpm),
            (Resource.INPUT, self.itpm),
            (Resource.OUTPUT, self.otpm),
            (Resource.TOKENS, self.tpm),
        )

    @staticmethod
    def tier(name: str) -> "Mapping[str, Limits]":
        """Return the published limits of one usage tier, for every pool.

        Args:
            name: ``"evaluation"``, ``"start"``, ``"build"`` or ``"scale"``. The evaluation tier has no
                published numbers; its entry declares none, so all are learned.

        Raises:
            ValueError: No such tier.
        """
        try:
            return _TIERS[name.lower()]
        except KeyError:
            raise ValueError(f"no tier {name!r}; the tiers are {', '.join(_TIERS)}") from None


_Row = tuple[int, int, int]


def _tier(general: _Row, fable: _Row, haiku_3_5: _Row, counting: int) -> Mapping[str, Limits]:
    def limits(row: _Row) -> Limits:
        return Limits(rpm=row[0], itpm=row[1], otpm=row[2])

    return MappingProxyType(
        {
            DEFAULT: limits(general),
            "fable-5": limits(fable),
            "haiku-3.5": limits(haiku_3_5),
            COUNT_TOKENS: Limits(rpm=counting),
        }
    )


# The published table of fall 2026 (platform.claude.com/docs/en/api/rate-limits).
_TIERS: Mapping[str, Mapping[str, Limits]] = MappingProxyType(
    {
        "evaluation": MappingProxyType({DEFAULT: Limits()}),
        "start": _tier(
            (1_000, 2_000_000, 400_000), (1_000, 500_000, 100_000), (1_000, 100_000, 20_000), 5_000
        ),
        "build": _tier(
            (5_000, 5_000_000, 1_000_000), (2_000, 1_500_000, 300_000), (2_000, 200_000, 40_000), 10_000
        ),
        "scale": _tier(
            (10_000, 10_000_000, 2_000_000), (4_000, 4_000_000, 800_000), (4_000, 400_000, 80_000), 20_000
        ),
    }
)

# "claude-opus-4-8", "claude-haiku-5-5", "claude-sonnet-4-5-20250929". The next one: names up to 3.7.
_MODEL = re.compile(
    r"(?P<family>opus|sonnet|haiku|fable|mythos)-(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?"
)
_OLD_MODEL = re.compile(r"claude-(?P<major>\d)(?:[-.](?P<minor>\d))?-(?P<family>opus|sonnet|haiku)")

_SHARED_BY_MAJOR = frozenset({("opus", "4"), ("sonnet", "4"), ("fable", "5"), ("mythos", "5")})
"""Families whose point releases draw on one pool; every other model has a pool of its own."""


@lru_cache(maxsize=1024)
def pool_of(model: str) -> str:
    """Return the name of the pool that counts a model's requests.

    Works for plain ids, dated ids and the prefixed ids of cloud platforms. An unknown model gets a pool
    of its own under its own name: separate buckets are a harmless guess, shared ones are not.

    >>> pool_of("claude-opus-4-8"), pool_of("claude-haiku-5-5"), pool_of("claude-sonnet-4-5-20250929")
    ('opus-4', 'haiku-5.5', 'sonnet-4')
    """
    found = _OLD_MODEL.search(model) or _MODEL.search(model)
    if found is None:
        return model
    family, major, minor = found["family"], found["major"], found["minor"]
    if (family, major) in _SHARED_BY_MAJOR or minor is None:
        return f"{family}-{major}"
    return f"{family}-{major}.{minor}"


def cache_reads_count(pool: str) -> bool:
    """Whether prompt-cache reads count towards the input limit of a pool (true for one old model)."""
    return pool == "haiku-3.5"


def limits_of(limits: Mapping[str, Limits], pool: str) -> Limits:
    """Return the limits declared for a pool, or those for every pool, or none."""
    return limits.get(pool) or limits.get(DEFAULT) or Limits()


def normalized(limits: Limits | Mapping[str, Limits]) -> dict[str, Limits]:
    """Return declared limits keyed by pool; the keys given may be models or pools.

    Raises:
        TypeError: A value is not a `Limits`.
        ValueError: Two keys mean the same pool but declare different limits.
    """
    if isinstance(limits, Limits):
        return {DEFAULT: limits}
    if not isinstance(limits, Mapping):
        raise TypeError(f"limits must be Limits or a mapping of model to Limits, got {type(limits).__name__}")
    pools: dict[str, Limits] = {}
    for key, value in limits.items():
        if not isinstance(value, Limits):
            raise TypeError(f"the limits of {key!r} must be a Limits, got {type(value).__name__}")
        pool = key if key == DEFAULT else pool_of(key)
        if pools.setdefault(pool, value) != value:
            raise ValueError(
                f"{key!r} shares the limits of pool {pool!r}, which is declared twice and differently"
            )
    return pools
