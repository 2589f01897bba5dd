"""Token counts of a sample of rows, from the API, which correct the estimates of all the others.

The sample is spread evenly over the whole file, because files are often sorted. The ratio of a model is the
sum of its counts divided by the sum of its estimates. How far off it may be is the standard error of a ratio
estimated from a sample drawn without replacement.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import cast

from claude_executor import Estimate, ExecutorError, Failed, Params
from claude_executor.bulk.input.rows import Row, RowDefaults, read_row
from claude_executor.bulk.input.sources import Source, source_of

_AT_ONCE = 20
"""Requests in flight at once; the rate is the business of the function that counts."""

_Sums = tuple[int, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class TokenRatio:
    """Counted tokens of one model compared with the estimates.

    Attributes:
        rows: Rows counted.
        ratio: Counted tokens divided by estimated tokens.
        error: Standard error, as a fraction of the ratio; `None` if only one row was counted.
    """

    rows: int
    ratio: float
    error: float | None


@dataclass(frozen=True, slots=True)
class TokenSample:
    """Token counts of some rows.

    Attributes:
        rows: Rows counted.
        models: The ratio of counts to estimates, by model.
    """

    rows: int
    models: Mapping[str, TokenRatio] = field(default_factory=dict[str, TokenRatio])


class NotCounted(Exception):
    """The API did not count a row. The cause says why.

    Attributes:
        custom_id: The row.
        status: The HTTP status; `None` without a response.
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
    count: Callable[[Params], Awaitable[int]],
) -> TokenSample:
    """Count the input tokens of a sample of rows.

    Args:
        source: A validated source.
        defaults: What its rows may leave out.
        rows: How many rows it has.
        sample: How many of them to count.
        count: Counts the input tokens of one request, such as `Executor.count_tokens`. It paces and retries.

    Raises:
        NotCounted: A row was not counted.
    """
    sample = min(sample, rows)
    counter = _Counter(count)
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


def sampled_positions(rows: int, sample: int) -> list[int]:
    """Choose the rows to count: one at random out of each of `sample` equal parts, in order.

    Random, because rows often alternate and every tenth of them may be of one kind; the same on each call.
    """
    generator = random.Random(rows)
    edges = [part * rows // sample for part in range(sample + 1)]
    return [generator.randrange(begin, end) for begin, end in pairwise(edges)]


def _chosen(source: Source, defaults: RowDefaults, rows: int, sample: int) -> Iterator[Row]:
    positions = iter(sampled_positions(rows, sample))
    wanted = next(positions, None)
    unit = source.unit
    for position, (number, record) in enumerate(source.records()):
        if position == wanted:
            yield read_row(record, number, defaults, unit=unit)
            wanted = next(positions, None)
            if wanted is None:
                return


class _Counter:
    """Has rows counted, and adds up counts and estimates by model."""

    def __init__(self, count: Callable[[Params], Awaitable[int]]) -> None:
        self._count = count
        self.sums: dict[str, _Sums] = {}

    async def work(self, rows: Iterator[Row]) -> None:
        for row in rows:
            counted = float(await self._counted(row))
            estimate = Estimate.of(row.params)
            guess = estimate.input_tokens
            so_far = self.sums.get(estimate.model, (0, 0.0, 0.0, 0.0, 0.0, 0.0))
            more = (1, counted, guess, counted * counted, counted * guess, guess * guess)
            self.sums[estimate.model] = cast("_Sums", tuple(map(sum, zip(so_far, more, strict=True))))

    async def _counted(self, row: Row) -> int:
        try:
            return await self._count(row.params)
        except ExecutorError as error:
            status = error.status if isinstance(error, Failed) else None
            raise NotCounted(row.custom_id, status, str(error).removeprefix("failed: ")) from error


def _ratio(sums: _Sums, left_out: float) -> TokenRatio:
    rows, counted, guessed, counted_squares, products, guessed_squares = sums
    ratio = counted / guessed
    if rows == 1:
        return TokenRatio(rows, ratio, None if left_out else 0.0)
    squares = max(0.0, counted_squares - 2.0 * ratio * products + ratio * ratio * guessed_squares)
    error = sqrt(squares / (rows - 1) / rows) / (guessed / rows) * left_out
    return TokenRatio(rows, ratio, error / ratio)
