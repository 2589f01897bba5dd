"""Forecast of the tokens of one row in the best, the likely and the worst case.

The cases differ in the error of the input estimate, in the length of the answer (nothing, the executor's
first guess, or `max_tokens`), and in cache hits: the first row with a prefix writes it and later ones read
it, or, in the worst case, every row writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from claude_executor import Estimate

SHORTEST_CACHED = 1_024
"""Tokens; the API does not cache shorter prefixes, even if marked."""
MOST_PREFIXES = 100_000
"""Prefixes remembered; later ones count as new."""


@dataclass(frozen=True, slots=True)
class CostRange:
    """An unknown number: its lower bound, best guess and upper bound."""

    low: float
    guess: float
    high: float

    def __add__(self, other: "CostRange") -> "CostRange":
        return CostRange(self.low + other.low, self.guess + other.guess, self.high + other.high)


class TokenUse(NamedTuple):
    """Tokens of one row in one case.

    Attributes:
        fresh: Input without the cache.
        output: Output.
        read: Input read from the cache.
        written: Input written to the cache.
        written_1h: Part of `written` that is kept for an hour.
    """

    fresh: float
    output: float
    read: float = 0.0
    written: float = 0.0
    written_1h: float = 0.0


Cases = tuple[TokenUse, TokenUse, TokenUse]


class Forecaster:
    """Forecasts rows one after the other, and remembers the prefixes seen."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, bytes]] = set()

    def cases(self, estimate: Estimate, params: Mapping[str, object], ratio: CostRange) -> Cases:
        """Return the best, the likely and the worst case; `ratio` multiplies the estimate."""
        whole, output, most = estimate.input_tokens, estimate.output_tokens, float(estimate.max_tokens)
        marked, found = self._marked(estimate, params)
        if not marked:
            return (
                TokenUse(whole * ratio.low, 0.0),
                TokenUse(whole * ratio.guess, output),
                TokenUse(whole * ratio.high, most),
            )
        hour = _for_an_hour(params)
        return (
            _cached(whole * ratio.low, 0.0, marked * ratio.low, found=found, hour=hour),
            _cached(whole * ratio.guess, output, marked * ratio.guess, found=found, hour=hour),
            _cached(whole * ratio.high, most, marked * ratio.high, found=False, hour=hour),
        )

    def _marked(self, estimate: Estimate, params: Mapping[str, object]) -> tuple[float, bool]:
        """Return the tokens marked for caching, and whether an earlier row had the same prefix."""
        if params.get("cache_control"):  # all of it is written, and no other row begins like that
            return estimate.input_tokens, False
        if estimate.prefix is None:
            return 0.0, False
        key = (estimate.model, estimate.prefix)
        found = key in self._seen
        if not found and len(self._seen) < MOST_PREFIXES:
            self._seen.add(key)
        return estimate.prefix_tokens, found


def _cached(whole: float, output: float, marked: float, *, found: bool, hour: bool) -> TokenUse:
    if marked < SHORTEST_CACHED:
        return TokenUse(whole, output)
    if found:
        return TokenUse(whole - marked, output, read=marked)
    return TokenUse(whole - marked, output, written=marked, written_1h=marked if hour else 0.0)


def _for_an_hour(part: object) -> bool:
    if isinstance(part, Mapping):
        fields = cast("Mapping[str, object]", part)
        return fields.get("ttl") == "1h" or any(map(_for_an_hour, fields.values()))
    return isinstance(part, list) and any(map(_for_an_hour, cast("Sequence[object]", part)))
