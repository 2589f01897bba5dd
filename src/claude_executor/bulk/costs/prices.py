"""What answers cost, from the price lists of `genai-prices`. What it does not know is unknown, never 0."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from claude_executor import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from anthropic.types import Usage as SdkUsage

PER_MILLION = 1e-6
FAST = 2.0
"""What fast mode multiplies the price of every token by."""
BATCH = 0.5
"""The same for Message Batches."""
UNITED_STATES = 1.1
"""The same for inference that is to stay in the United States."""
SEARCHES = 1_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and money, of one answer or of many.

    Attributes:
        input_tokens: Input that was neither read from the prompt cache nor written to it.
        output_tokens: Output.
        cache_read_tokens: Input read from the prompt cache.
        cache_written_tokens: Input written to it.
        dollars: Their price; `None` where the price of any of them is not known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_written_tokens: int = 0
    dollars: float | None = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of all kinds."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_written_tokens

    def __add__(self, other: Spent) -> Spent:
        known = self.dollars is not None and other.dollars is not None
        return Spent(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_written_tokens + other.cache_written_tokens,
            (self.dollars or 0.0) + (other.dollars or 0.0) if known else None,
        )


NOTHING_SPENT = Spent()


class ModelPrice:
    """One price: dollars by the million, which may depend on how long the whole prompt is."""

    __slots__ = ("_base", "_steps")

    def __init__(self, listed: object) -> None:
        """`listed` is a number, or has a ``base`` and ``tiers`` with a ``start`` and a ``price`` each."""
        self._base = float(str(getattr(listed, "base", listed)))
        tiers = getattr(listed, "tiers", ())
        self._steps = sorted(((float(tier.start), float(tier.price)) for tier in tiers), reverse=True)

    @property
    def steps(self) -> list[float]:
        """Where it changes."""
        return [start for start, _ in self._steps]

    def at(self, prompt_tokens: float) -> float:
        """The price for a prompt of that length."""
        for start, price in self._steps:
            if prompt_tokens > start:
                return price
        return self._base


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one model, in dollars by the million tokens; searches by the thousand."""

    input: ModelPrice
    output: ModelPrice
    cache_read: ModelPrice
    cache_written: ModelPrice
    cache_written_1h: ModelPrice
    searches: ModelPrice


class Prices:
    """The price lists of the models that are asked for, looked up once each.

    The library's own calculation takes 0.4 ms, as long as a fifth of the request; this is the same sum.
    """

    def __init__(self) -> None:
        self._lists: dict[str, PriceList | None] = {}

    def spent(self, model: str, usage: SdkUsage | dict[str, Any] | None) -> Spent:
        """What one answer took, and its price. Of what a proxy hands on anything may be missing.

        Args:
            model: Its model.
            usage: What it says of that; out of a results file, as a dictionary.
        """
        return self.spent_by(model, _used(usage))

    def spent_by(self, model: str, used: Usage) -> Spent:
        """The same of an attempt, as the executor's events tell it."""
        dollars = self.dollars(
            model,
            fresh=used.input_tokens,
            output=used.output_tokens,
            read=used.cache_read_tokens,
            written=used.cache_creation_tokens,
            written_1h=used.cache_hour_tokens,
            searches=used.searches,
            # The API says how it really served the request, which need not be how it was asked to.
            factor=factor(speed=used.speed, geo=used.geo, tier=used.tier),
        )
        tokens = used.cache_read_tokens, used.cache_creation_tokens
        return Spent(used.input_tokens, used.output_tokens, *tokens, dollars)

    def dollars(
        self,
        model: str,
        fresh: float,
        output: float,
        read: float = 0.0,
        written: float = 0.0,
        written_1h: float = 0.0,
        *,
        searches: int = 0,
        factor: float = 1.0,
        prompt: float | None = None,
    ) -> float | None:
        """What one request costs; `None` if the model has no known price.

        Args:
            model: Its model.
            fresh: Input tokens that are neither read from the cache nor written to it.
            output: Output tokens.
            read: Input tokens read from the cache.
            written: Input tokens written to it.
            written_1h: Those of them that are written for an hour.
            searches: Searches in the web.
            factor: What `factor` says.
            prompt: How long the whole prompt is, if the amounts are those of many requests.
        """
        prices = self._of(model)
        if prices is None:
            return None
        prompt = fresh + read + written if prompt is None else prompt
        dollars = fresh * prices.input.at(prompt) + output * prices.output.at(prompt)
        if read or written:
            dollars += (
                read * prices.cache_read.at(prompt)
                + (written - written_1h) * prices.cache_written.at(prompt)
                + written_1h * prices.cache_written_1h.at(prompt)
            )
        return PER_MILLION * factor * dollars + searches * prices.searches.at(prompt) / SEARCHES

    def steps(self, model: str) -> list[float]:
        """Lengths of prompts beyond each of which a price is another, the shortest first."""
        prices = self._of(model)
        if prices is None:
            return []
        return sorted({start for one in fields(prices) for start in getattr(prices, one.name).steps})

    def _of(self, model: str) -> PriceList | None:
        if model not in self._lists:
            self._lists[model] = _look_up(model)
        return self._lists[model]


def factor(*, speed: object = None, geo: object = None, tier: object = None) -> float:
    """What the way a request is served multiplies the price of its tokens by.

    Args:
        speed: ``"fast"`` or not.
        geo: ``"us"`` or not.
        tier: ``"batch"`` or not.
    """
    times = FAST if speed == "fast" else 1.0
    if geo == "us":
        times *= UNITED_STATES
    return times * BATCH if tier == "batch" else times


def _used(usage: object) -> Usage:
    """What an answer says it took: an object of the SDK, or JSON. Neither need hold what it should."""
    said = _reader(usage)
    cache, tools = _reader(said("cache_creation", None)), _reader(said("server_tool_use", None))
    return Usage(
        _amount(said("input_tokens", None)),
        _amount(said("output_tokens", None)),
        _amount(said("cache_creation_input_tokens", None)),
        _amount(said("cache_read_input_tokens", None)),
        _amount(cache("ephemeral_1h_input_tokens", None)),
        _amount(tools("web_search_requests", None)),
        said("speed", None),
        said("inference_geo", None),
        said("service_tier", None),
    )


def _reader(holder: object) -> Callable[[str, None], Any]:
    """What gives a field of it, or `None`. JSON has no other mappings than dictionaries."""
    if isinstance(holder, dict):
        return cast("dict[str, Any]", holder).get
    return partial(getattr, holder)


def _amount(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _look_up(model: str) -> PriceList | None:
    import genai_prices  # takes a moment, and not every command asks what something costs

    try:
        listed = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=1), model_ref=model, provider_id="anthropic"
        ).model_price
    except (LookupError, ValueError):
        return None
    if listed.input_mtok is None or listed.output_mtok is None:
        return None
    input_ = ModelPrice(listed.input_mtok)
    written = ModelPrice(listed.cache_write_mtok) if listed.cache_write_mtok is not None else input_
    hour = getattr(listed, "cache_write_1h_mtok", None)
    searches = getattr(listed, "web_searches_kcount", None)
    return PriceList(
        input=input_,
        output=ModelPrice(listed.output_mtok),
        cache_read=ModelPrice(listed.cache_read_mtok) if listed.cache_read_mtok is not None else input_,
        cache_written=written,
        cache_written_1h=ModelPrice(hour) if hour is not None else written,
        searches=ModelPrice(searches if searches is not None else 0),
    )
