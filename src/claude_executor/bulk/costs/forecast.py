"""What one row may take: in the best case, in the likely one and in the worst.

They differ in how well the input was estimated, in how long the answer becomes (nothing, as long as an
executor guesses before it has seen any, or `max_tokens`), and in whether what is marked to be cached is found
in the cache: the first row with a prefix writes it and later ones read it, or, at worst, every one writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from claude_executor import Estimate

SHORTEST_CACHED = 1_024
"""Tokens; the API caches no shorter prefix, whatever is marked."""
MOST_PREFIXES = 100_000
"""Prefixes remembered; what comes after so many different ones is taken for new."""


@dataclass(frozen=True, slots=True)
class CostRange:
    """A number that is not known: the least it may be, the best guess, and the most."""

    low: float
    guess: float
    high: float

    def __add__(self, other: "CostRange") -> "CostRange":
        return CostRange(self.low + other.low, self.guess + other.guess, self.high + other.high)


class TokenUse(NamedTuple):
    """What one row takes in one case, in tokens.

    Attributes:
        fresh: Input that has nothing to do with the cache.
        output: Output.
        read: Input read from the cache.
        written: Input written to it.
        written_1h: That of it which is written for an hour.
    """

    fresh: float
    output: float
    read: float = 0.0
    written: float = 0.0
    written_1h: float = 0.0


Cases = tuple[TokenUse, TokenUse, TokenUse]


class Forecaster:
    """Tells the cases of rows, one after the other."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, bytes]] = set()

    def cases(self, estimate: Estimate, params: Mapping[str, object], ratio: CostRange) -> Cases:
        """The best case, the likely one and the worst; `ratio` is what the estimate is multiplied by."""
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
        """How much of a row is marked to be cached, and whether a row before it had the same."""
        if params.get("cache_control"):  # the whole of it: it is written, and no other row begins like that
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
