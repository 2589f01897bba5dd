"""Caps of a bulk job: money and tokens over all its starts, and the duration of one start.

The executor keeps the caps on money and tokens (see `SpendingCap`): a request in flight counts as the most it
can cost. A job adds prices in dollars, and what earlier starts spent according to the results file. Answers
that are no longer in the file and failed attempts of earlier starts are not counted.

A request whose service is not known counts as the most expensive service that any row asks for. The cost of
what a request brings in from elsewhere, such as remote documents or search results, cannot be bounded in
advance.
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
    """A cap on money cannot be kept, because the price of a model is not known.

    Attributes:
        models: The models without a price.
    """

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__(
            f"the price of {', '.join(models)} is not known, so a cap on the cost cannot be kept"
        )
        self.models = tuple(models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Caps of one job. `None` means no cap.

    Attributes:
        dollars: Cost of all answers, over all starts.
        tokens: Tokens of all kinds of all answers, over all starts.
        seconds: Seconds after which a start sends nothing more.
    """

    dollars: float | None = None
    tokens: int | None = None
    seconds: float | None = None

    @property
    def spending(self) -> bool:
        """Whether money or tokens are capped."""
        return self.dollars is not None or self.tokens is not None

    def used_up(self, spent: Spent) -> bool:
        """Whether `spent` has used up a cap."""
        return any(used >= most for used, most in self._shares(spent))

    def nearest(self, spent: Spent) -> str | None:
        """Name the cap that is used up most: ``"dollars"`` or ``"tokens"``; `None` without caps."""
        shares = dict(zip(self._names(), self._shares(spent), strict=True))
        return max(shares, key=lambda name: shares[name][0] / shares[name][1], default=None)

    def left(self, before: Spent, demand: "CapDemand", prices: Prices) -> tuple[SpendingCap, ...]:
        """Return the caps for an executor, less what is spent already.

        Args:
            before: What earlier starts spent.
            demand: What the rows ask for.
            prices: The price list.

        Raises:
            Unpriced: There is a cap on money, and the price of a model is not known.
            ValueError: Nothing is left of a cap.
        """
        caps: list[SpendingCap] = []
        if self.dollars is not None:
            unknown = [model for model in sorted(demand.models) if prices.dollars(model, 1.0, 1.0) is None]
            if unknown:
                raise Unpriced(unknown)
            caps.append(
                SpendingCap(self.dollars - (before.dollars or 0.0), _Dollars(prices, demand), "dollars")
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
    """Demand of the rows of a job, as far as it bounds their cost. Show it every row with `see`.

    Attributes:
        models: The models.
        fast: Whether any row asks for fast mode.
        unbounded: How many rows bring in content whose size cannot be bounded.
    """

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.fast = False
        self.unbounded = 0

    def see(self, custom_id: str, params: Params) -> None:
        """Record the next row."""
        del custom_id
        self.models.add(str(params["model"]))
        self.fast = self.fast or params.get("speed") == "fast"
        self.unbounded += _unbounded(params)


def spent_on(results: ResultsReader, prices: Prices, *, in_dollars: bool) -> Spent:
    """Add up the tokens and cost of the answers in a results file. Copies of an answer cost nothing.

    Raises:
        Unpriced: The cost is needed in dollars, and the price of a model is not known.
        NotResults: The file holds something else.
        OSError: The file cannot be read.
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
    """Prices the requests of a job; see `SpendingCap`."""

    def __init__(self, prices: Prices, demand: CapDemand) -> None:
        self._prices = prices
        self._speed = "fast" if demand.fast else None

    def __call__(self, model: str, usage: Usage) -> float:
        # A workspace setting may keep all requests in the United States.
        served = usage._replace(speed=usage.speed or self._speed, geo=usage.geo or "us")
        dollars = self._prices.spent_by(model, served).dollars
        assert dollars is not None  # looked up before anything was sent
        return dollars


def _unbounded(params: Params) -> bool:
    """Whether a request brings in content from elsewhere."""
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
