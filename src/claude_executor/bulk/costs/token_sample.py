"""Counts the input of some rows by the API, which is free, to set the estimate of all the others right.

The rows are taken evenly over the whole file, because files are often sorted. For every model the counts
divided by the estimates, sum by sum, are a ratio; how far that may be off is the standard error of a ratio
of a sample drawn without putting back. The requests have a limit of their own, apart from that of messages.
"""

import asyncio
import inspect
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, cast

from claude_executor import Estimate, Limits
from claude_executor.bulk.input.rows import Row, RowDefaults, read_row
from claude_executor.bulk.input.sources import Source, source_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

_CAREFUL = 2_000
"""The limit where no tier is told: the lowest that was published in the last year."""
_AT_ONCE = 20
_AGAIN = 5

_Sums = tuple[int, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """What was counted of one model.

    Attributes:
        rows: Rows counted.
        ratio: The tokens counted, divided by those estimated.
        error: Its standard error, as a share of it; `None` if one row is all there is.
    """

    rows: int
    ratio: float
    error: float | None


@dataclass(frozen=True, slots=True)
class TokenSample:
    """What was counted.

    Attributes:
        rows: Rows counted.
        models: What was found, by model.
    """

    rows: int
    models: Mapping[str, Ratio] = field(default_factory=dict[str, Ratio])


class NotCounted(Exception):
    """The API did not count a row; the cause says why.

    Attributes:
        custom_id: Which row it was.
        status: The HTTP status; `None` if there was no answer.
    """

    def __init__(self, custom_id: str, status: int | None, why: str) -> None:
        super().__init__(f"the API did not count row {custom_id!r}: {why}")
        self.custom_id = custom_id
        self.status = status


async def count_tokens(
    source: Path | Source,
    defaults: RowDefaults,
    *,
    rows: int,
    sample: int,
    client: "AsyncAnthropic",
    tier: str | None = None,
) -> TokenSample:
    """Count the input of rows.

    Args:
        source: A source that has been checked.
        defaults: What its lines may leave out.
        rows: How many rows it has.
        sample: How many of them to count.
        client: What asks the API; its retries are used.
        tier: The usage tier, if it is known: it says how many requests a minute may count.

    Raises:
        NotCounted: The API did not count one of them.
    """
    sample = min(sample, rows)
    limits: Mapping[str, Limits] = Limits.tier(tier) if tier is not None else {}
    counter = _Counter(client, limits.get("count_tokens", Limits()).rpm or _CAREFUL)
    chosen = _chosen(source_of(source), defaults, rows, sample)
    workers = [asyncio.ensure_future(counter.work(chosen)) for _ in range(min(_AT_ONCE, sample))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    left_out = sqrt(1.0 - sample / rows) if rows else 0.0
    return TokenSample(sample, {model: _ratio(sums, left_out) for model, sums in counter.sums.items()})


def places(rows: int, sample: int) -> list[int]:
    """Which rows to count: one out of each of as many parts of equal length, in order.

    By chance, since rows often take turns and every tenth of them may be of one kind; the same each time.
    """
    chance = random.Random(rows)
    edges = [part * rows // sample for part in range(sample + 1)]
    return [chance.randrange(begin, end) for begin, end in pairwise(edges)]


def _chosen(source: Source, defaults: RowDefaults, rows: int, sample: int) -> Iterator[Row]:
    wanted_places = iter(places(rows, sample))
    wanted = next(wanted_places, None)
    unit = source.unit
    for place, (number, record) in enumerate(source.records()):
        if place == wanted:
            yield read_row(record, number, defaults, unit=unit)
            wanted = next(wanted_places, None)
            if wanted is None:
                return


class _Counter:
    """Asks the API, and sums up by model."""

    def __init__(self, client: "AsyncAnthropic", per_minute: float) -> None:
        from aiolimiter import AsyncLimiter

        self._limiter = AsyncLimiter(1, 60.0 / per_minute)  # no bursts: how large may they be?
        self._count = client.with_options(max_retries=_AGAIN).messages.count_tokens
        url = client.base_url
        self._url = f"{url.scheme}://{url.netloc.decode()}"  # without a password that may be in it
        self._known = frozenset(inspect.signature(self._count).parameters)
        self.sums: dict[str, _Sums] = {}

    async def work(self, rows: Iterator[Row]) -> None:
        for row in rows:
            await self._limiter.acquire()
            counted = await self._ask(row)
            estimate = Estimate.of(row.params)
            guess = estimate.input_tokens
            so_far = self.sums.get(estimate.model, (0, 0.0, 0.0, 0.0, 0.0, 0.0))
            more = (1, counted, guess, counted * counted, counted * guess, guess * guess)
            self.sums[estimate.model] = cast("_Sums", tuple(map(sum, zip(so_far, more, strict=True))))

    async def _ask(self, row: Row) -> float:
        import anthropic

        arguments = {name: value for name, value in row.params.items() if name in self._known}
        try:
            answer = await self._count(**arguments)  # type: ignore[arg-type]  # the API says what is wrong
        except anthropic.APIStatusError as error:
            why = error.api_message or "no reason given"
            raise NotCounted(row.custom_id, error.status_code, why) from error
        except anthropic.APIConnectionError as error:
            where = f"{self._url} cannot be reached; check the network and the base URL (ANTHROPIC_BASE_URL)"
            raise NotCounted(row.custom_id, None, where) from error
        except (
            anthropic.AnthropicError,
            TypeError,
        ) as error:  # TypeError is what it says where there is no key
            no_key = "authentication" in str(error)
            why = "there is no API key; set ANTHROPIC_API_KEY" if no_key else type(error).__name__
            raise NotCounted(row.custom_id, None, why) from error
        return float(answer.input_tokens)


def _ratio(sums: _Sums, left_out: float) -> Ratio:
    rows, counted, guessed, counted_squares, products, guessed_squares = sums
    ratio = counted / guessed
    if rows == 1:
        return Ratio(rows, ratio, None if left_out else 0.0)
    squares = max(0.0, counted_squares - 2.0 * ratio * products + ratio * ratio * guessed_squares)
    error = sqrt(squares / (rows - 1) / rows) / (guessed / rows) * left_out
    return Ratio(rows, ratio, error / ratio)
