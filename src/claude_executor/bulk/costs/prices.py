"""Prices of answers, from the lists of `genai-prices`. A price it does not list is unknown, never 0."""

from __future__ import annotations

from dataclasses import dataclass, fields

from claude_executor import Usage

PER_MILLION = 1e-6
FAST = 2.0
"""Multiplies the price of every token in fast mode."""
BATCH = 0.5
"""Multiplies it in Message Batches."""
UNITED_STATES = 1.1
"""Multiplies it for inference that stays in the United States."""
SEARCHES = 1_000
"""Web searches that a listed price buys."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and money that one answer or many have cost.

    Attributes:
        input_tokens: Input that was neither read from the prompt cache nor written to it.
        output_tokens: Output.
        cache_read_tokens: Input read from the prompt cache.
        cache_written_tokens: Input written to the prompt cache.
        dollars: The price of all of it; `None` if any part has no known price.
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
    """One price in dollars per million tokens, which may depend on the length of the whole prompt."""

    __slots__ = ("_base", "_steps")

    def __init__(self, listed: object) -> None:
        """Read a price list entry.

        Args:
            listed: A number, or an object with a ``base`` and ``tiers`` of a ``start`` and a ``price`` each.
        """
        self._base = float(str(getattr(listed, "base", listed)))
        tiers = getattr(listed, "tiers", ())
        self._steps = sorted(((float(tier.start), float(tier.price)) for tier in tiers), reverse=True)

    @property
    def steps(self) -> list[float]:
        """Prompt lengths beyond which the price changes."""
        return [start for start, _ in self._steps]

    def at(self, prompt_tokens: float) -> float:
        """Return the price for a prompt of this length."""
        for start, price in self._steps:
            if prompt_tokens > start:
                return price
        return self._base


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one model, in dollars per million tokens, and per thousand searches."""

    input: ModelPrice
    output: ModelPrice
    cache_read: ModelPrice
    cache_written: ModelPrice
    cache_written_1h: ModelPrice
    searches: ModelPrice


class Prices:
    """The prices of models, each looked up once.

    `genai-prices` takes 0.4 ms to price an answer, a fifth of the time a request takes; this is the same sum.
    """

    def __init__(self) -> None:
        self._lists: dict[str, PriceList | None] = {}

    def spent(self, model: str, usage: object) -> Spent:
        """Return what one answer took, and its price.

        Args:
            model: The model that answered.
            usage: The answer's `usage`: an object of the SDK, or parsed JSON; see `Usage.from_api`.
        """
        return self.spent_by(model, Usage.from_api(usage))

    def spent_by(self, model: str, used: Usage) -> Spent:
        """Return what one attempt took, as the executor's events report it, and its price."""
        tokens = used.cache_read_tokens, used.cache_creation_tokens
        return Spent(used.input_tokens, used.output_tokens, *tokens, self.price(model, used))

    def price(self, model: str, used: Usage) -> float | None:
        """Return what one attempt cost in dollars; None if the model has no known price."""
        return self.dollars(
            model,
            fresh=used.input_tokens,
            output=used.output_tokens,
            read=used.cache_read_tokens,
            written=used.cache_creation_tokens,
            written_1h=min(used.cache_hour_tokens, used.cache_creation_tokens),
            searches=used.searches,
            # The API reports how it served the request, which may differ from how it was asked to.
            factor=factor(speed=used.speed, geo=used.geo, tier=used.tier),
        )

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
        """Return what a request costs; None if the model has no known price.

        Args:
            model: The model.
            fresh: Input tokens that are neither read from the prompt cache nor written to it.
            output: Output tokens.
            read: Input tokens read from the cache.
            written: Input tokens written to the cache.
            written_1h: Those of `written` that are kept for an hour.
            searches: Web searches.
            factor: The multiplier that `factor` returns.
            prompt: Length of one whole prompt in tokens, if the amounts are sums over many requests.
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
        """Return the prompt lengths beyond which a price changes, the shortest first."""
        prices = self._of(model)
        if prices is None:
            return []
        return sorted({start for one in fields(prices) for start in getattr(prices, one.name).steps})

    def _of(self, model: str) -> PriceList | None:
        if model not in self._lists:
            self._lists[model] = _look_up(model)
        return self._lists[model]


def factor(*, speed: object = None, geo: object = None, tier: object = None) -> float:
    """Return what the price of tokens is multiplied by, for the way a request is served.

    Args:
        speed: ``"fast"`` or not.
        geo: ``"us"`` or not.
        tier: ``"batch"`` or not.
    """
    times = FAST if speed == "fast" else 1.0
    if geo == "us":
        times *= UNITED_STATES
    return times * BATCH if tier == "batch" else times


def _look_up(model: str) -> PriceList | None:
    import genai_prices  # slow to import, and not every command needs prices

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
