"""What a whole job may take: money and tokens, over all its starts; and how long one start may last.

The executor keeps the caps on money and tokens (see `SpendingCap`): what is in flight counts as the most it
can cost. A job adds what things cost in dollars, and what earlier starts have spent. That is what the results
say: answers that are not among them, and attempts of earlier starts that failed, are not counted.

Whatever is not known of how a request is served counts as the dearest way any row asks for. What a request
brings in from elsewhere, a document by its address or what a search finds, nobody can bound beforehand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from claude_executor import Params, SpendingCap, Usage
from claude_executor.bulk.costs.prices import Prices, Spent
from claude_executor.bulk.results.reader import ResultsReader

_SERVER_TOOLS = ("web_search", "web_fetch", "code_execution")
_ELSEWHERE = frozenset({"url", "file"})


class Unpriced(Exception):
    """A budget cannot be kept, because a price is not known.

    Attributes:
        models: Whose.
    """

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__(f"the price of {', '.join(models)} is not known, so a budget cannot be kept")
        self.models = tuple(models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Caps of one job; what is `None` is not capped.

    Attributes:
        dollars: What all its answers may cost, over all starts.
        tokens: How many tokens of all kinds they may take.
        seconds: After how long a start sends nothing more.
    """

    dollars: float | None = None
    tokens: int | None = None
    seconds: float | None = None

    @property
    def spending(self) -> bool:
        """Whether there is one on money or tokens."""
        return self.dollars is not None or self.tokens is not None

    def used_up(self, spent: Spent) -> bool:
        """Whether nothing is left of one of them."""
        return any(used >= most for used, most in self._shares(spent))

    def nearest(self, spent: Spent) -> str | None:
        """The name of that of which the largest share is used: ``"dollars"`` or ``"tokens"``."""
        shares = dict(zip(self._names(), self._shares(spent), strict=True))
        return max(shares, key=lambda name: shares[name][0] / shares[name][1], default=None)

    def left(self, before: Spent, asked: "CapDemand", prices: Prices) -> tuple[SpendingCap, ...]:
        """Those on money and tokens for an executor, when so much is spent already.

        Raises:
            Unpriced: There is one on money, and a price is not known.
            ValueError: Nothing is left.
        """
        caps: list[SpendingCap] = []
        if self.dollars is not None:
            unknown = [model for model in sorted(asked.models) if prices.dollars(model, 1.0, 1.0) is None]
            if unknown:
                raise Unpriced(unknown)
            caps.append(
                SpendingCap(self.dollars - (before.dollars or 0.0), _Dollars(prices, asked), "dollars")
            )
        if self.tokens is not None:
            caps.append(SpendingCap(self.tokens - before.tokens))
        return tuple(caps)

    def _names(self) -> list[str]:
        return [name for name in ("dollars", "tokens") if getattr(self, name) is not None]

    def _shares(self, spent: Spent) -> list[tuple[float, float]]:
        return [(getattr(spent, name) or 0.0, getattr(self, name)) for name in self._names()]


NO_CAPS = Caps()


class CapDemand:
    """What must be known of all rows before their cost can be bounded. Show it every row with `see`.

    Attributes:
        models: The models they ask for.
        fast: Whether any asks for fast mode.
        unbounded: How many of them bring in what nobody can bound.
    """

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.fast = False
        self.unbounded = 0

    def see(self, custom_id: str, params: Params) -> None:
        """Look at the next row."""
        del custom_id
        self.models.add(str(params["model"]))
        self.fast = self.fast or params.get("speed") == "fast"
        self.unbounded += _unbounded(params)


def spent_on(results: ResultsReader, prices: Prices, *, in_dollars: bool) -> Spent:
    """What the answers in a results file have cost; a copy of another's cost nothing.

    Raises:
        Unpriced: It is to be known in dollars, and a price is not known.
        NotResults: A line is no result.
        OSError: It cannot be read.
    """
    whole = Spent()
    unknown: set[str] = set()
    for line in results.parsed(offset for offset, entry in results.entries() if entry.answered):
        if line.is_copy:
            continue
        spent = prices.spent_by(line.model, line.usage or Usage())
        if spent.dollars is None:
            unknown.add(line.model)
        whole += spent
    if unknown and in_dollars:
        raise Unpriced(sorted(unknown))
    return whole


class _Dollars:
    """The price of a request of a job; see `SpendingCap`."""

    def __init__(self, prices: Prices, asked: CapDemand) -> None:
        self._prices = prices
        self._speed = "fast" if asked.fast else None

    def __call__(self, model: str, usage: Usage) -> float:
        # A workspace may keep all its requests in the United States without being asked to.
        served = usage._replace(speed=usage.speed or self._speed, geo=usage.geo or "us")
        dollars = self._prices.spent_by(model, served).dollars
        assert dollars is not None  # looked up before anything was sent
        return dollars


def _unbounded(params: Params) -> bool:
    """Whether a request brings in what is not in it."""
    if params.get("mcp_servers") or params.get("container"):
        return True
    tools = _items(params.get("tools"))
    if any(str(tool.get("type")).startswith(_SERVER_TOOLS) for tool in tools):
        return True
    return any(_brings_in(message.get("content")) for message in _items(params.get("messages")))


def _brings_in(content: object) -> bool:
    for block in _items(content):
        if block.get("type") == "document" and _mapping(block.get("source")).get("type") in _ELSEWHERE:
            return True
        if block.get("type") == "tool_result" and _brings_in(block.get("content")):
            return True
    return False


def _items(value: object) -> list[Mapping[str, Any]]:
    return [_mapping(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
