"""The plan of a job: tokens, money and time before anything is paid for, each as a range.

No message is sent for it. Input is estimated from its bytes, or counted in part (see `count_tokens`). Output
is not known before there are answers: it lies between nothing and `max_tokens`, and cost and time vary with
it. A missing price or limit is reported as unknown.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from claude_executor import Estimate, Limits
from claude_executor.bulk.costs.forecast import Cases, CostRange, Forecaster, TokenUse
from claude_executor.bulk.costs.prices import Prices, factor
from claude_executor.bulk.costs.token_sample import TokenSample
from claude_executor.bulk.input.rows import RowDefaults, rows_of
from claude_executor.bulk.input.sources import Source

SURE = 2.0
"""Standard deviations on either side, which contain the truth in 19 of 20 cases."""
FULL_BUCKET = 60.0
"""Default burst, in seconds of the limit."""

_DECLARED = {"rpm": "requests", "itpm": "input tokens", "otpm": "output tokens", "tpm": "tokens"}
_Sums = dict[tuple[float, int], list[float]]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Forecast of the rows of one model.

    Attributes:
        model: The model.
        rows: Number of rows.
        input_tokens: All input, cached or not.
        output_tokens: Output; at most `max_tokens` of every row.
        cache_read_tokens: Input probably read from the prompt cache.
        cache_written_tokens: Input probably written to the prompt cache.
        dollars: Cost; `None` if the price of the model is not known.
    """

    model: str
    rows: int
    input_tokens: CostRange
    output_tokens: CostRange
    cache_read_tokens: float
    cache_written_tokens: float
    dollars: CostRange | None


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Minimum time for the rows of one pool of models.

    Attributes:
        pool: Name of the pool.
        seconds: Minimum time; `None` if no limit of the pool is known.
        limited_by: The limit that binds longest by the best guess; `None` if none binds.
        limited_by_at_most: The limit that binds longest if every answer has `max_tokens`.
        unknown: The limits that are not known and may bind earlier.
    """

    pool: str
    seconds: CostRange | None
    limited_by: str | None
    limited_by_at_most: str | None
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Forecast of a job.

    Attributes:
        models: Forecast of each model.
        pools: Minimum time of each pool, the longest first.
        counted: Token counts of a sample, if there are any.
    """

    models: tuple[ModelPlan, ...]
    pools: tuple[PoolPlan, ...]
    counted: TokenSample | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(model.rows for model in self.models)

    @property
    def input_tokens(self) -> CostRange:
        """Input tokens of all rows."""
        return _sum(model.input_tokens for model in self.models)

    @property
    def output_tokens(self) -> CostRange:
        """Output tokens of all rows."""
        return _sum(model.output_tokens for model in self.models)

    @property
    def dollars(self) -> CostRange | None:
        """Cost of all rows; `None` if a price is not known."""
        known = [model.dollars for model in self.models if model.dollars is not None]
        return _sum(known) if len(known) == len(self.models) else None

    @property
    def seconds(self) -> CostRange | None:
        """Minimum time of all rows; pools run in parallel. `None` if the time of a pool is not known."""
        known = [pool.seconds for pool in self.pools if pool.seconds is not None]
        if len(known) < len(self.pools):
            return None
        return CostRange(
            max((span.low for span in known), default=0.0),
            max((span.guess for span in known), default=0.0),
            max((span.high for span in known), default=0.0),
        )

    def as_dict(self) -> dict[str, object]:
        """Return the plan as plain values, for JSON."""
        dollars, seconds = self.dollars, self.seconds
        return {
            "rows": self.rows,
            "input_tokens": asdict(self.input_tokens),
            "output_tokens": asdict(self.output_tokens),
            "dollars": asdict(dollars) if dollars is not None else None,
            "seconds": asdict(seconds) if seconds is not None else None,
            **asdict(self),
        }


def plan(
    source: Path | Source,
    defaults: RowDefaults,
    limits: Limits | Mapping[str, Limits],
    counted: TokenSample | None = None,
) -> Plan:
    """Forecast the rows of a source.

    Args:
        source: A validated source.
        defaults: What its rows may leave out.
        limits: The known limits, as for an `Executor`.
        counted: Token counts of a sample, from `count_tokens`.
    """
    prices, forecaster = Prices(), Forecaster()
    models: dict[str, _Model] = {}
    pools: dict[str, _PoolSums] = {}
    for row in rows_of(source, defaults):
        estimate = Estimate.of(row.params)
        model = models.get(estimate.model)
        if model is None:
            model = models[estimate.model] = _Model(estimate, counted, prices)
            pool = pools.setdefault(estimate.pool, _PoolSums(estimate.pool, estimate.limits_in(limits)))
            pool.models.append(model)
        times = factor(speed=row.params.get("speed"), geo=row.params.get("inference_geo"))
        model.add(forecaster.cases(estimate, row.params, model.ratio), times)
    timed = [pool.planned() for pool in pools.values()]
    timed.sort(key=lambda pool: -pool.seconds.guess if pool.seconds is not None else 0.0)
    return Plan(tuple(model.planned() for model in models.values()), tuple(timed), counted)


class _Model:
    """Sums over the rows of one model, in each case.

    Rows are grouped by what changes their price: its factor, and the step of the price list for their prompt
    length. Within a group the price is that of the sums.
    """

    def __init__(self, estimate: Estimate, counted: TokenSample | None, prices: Prices) -> None:
        self.rows = 0
        self.ratio = _ratio(estimate, counted)
        self._name = estimate.model
        self._prices = prices
        self._steps = prices.steps(self._name)
        self._lowest = self._steps[0] if self._steps else math.inf
        self._sums: tuple[_Sums, _Sums, _Sums] = ({}, {}, {})

    def add(self, cases: Cases, times: float) -> None:
        self.rows += 1
        for sums, (fresh, output, read, written, written_1h) in zip(self._sums, cases, strict=True):
            prompt = fresh + read + written
            key = times, 0 if prompt <= self._lowest else bisect_left(self._steps, prompt)
            so_far = sums.get(key)
            if so_far is None:
                sums[key] = [fresh, output, read, written, written_1h]
                continue
            so_far[0] += fresh
            so_far[1] += output
            if read or written:
                so_far[2] += read
                so_far[3] += written
                so_far[4] += written_1h

    def total(self, case: int) -> TokenUse:
        """Return the sums of one case."""
        return TokenUse(*map(sum, zip(*self._sums[case].values(), strict=True)))

    def planned(self) -> ModelPlan:
        totals = [self.total(case) for case in range(3)]
        dollars = [amount for case in range(3) if (amount := self._dollars(case)) is not None]
        return ModelPlan(
            self._name,
            self.rows,
            CostRange(*(use.fresh + use.read + use.written for use in totals)),
            CostRange(*(use.output for use in totals)),
            totals[1].read,
            totals[1].written,
            CostRange(*dollars) if len(dollars) == len(totals) else None,
        )

    def _dollars(self, case: int) -> float | None:
        whole = 0.0
        for (times, step), sums in self._sums[case].items():
            prompt = self._steps[step - 1] + 1.0 if step else 0.0
            dollars = self._prices.dollars(self._name, *sums, factor=times, prompt=prompt)
            if dollars is None:
                return None
            whole += dollars
        return whole


def _ratio(estimate: Estimate, counted: TokenSample | None) -> CostRange:
    """Return the factor that corrects the estimates of a model."""
    ratio, error = 1.0, estimate.error
    if counted is not None and (found := counted.models.get(estimate.model)) is not None:
        ratio = found.ratio
        error = found.error if found.error is not None else error
    return CostRange(ratio * max(0.0, 1.0 - SURE * error), ratio, ratio * (1.0 + SURE * error))


@dataclass(slots=True)
class _PoolSums:
    """Sums over the models that share limits."""

    name: str
    limits: Limits
    models: list[_Model] = field(default_factory=list[_Model])

    def planned(self) -> PoolPlan:
        known = {
            resource: float(limit)
            for name, resource in _DECLARED.items()
            if (limit := getattr(self.limits, name)) is not None
        }
        unknown = tuple(
            resource for name, resource in _DECLARED.items() if name != "tpm" and resource not in known
        )
        if not known:
            return PoolPlan(self.name, None, None, None, unknown)
        spans = [self._longest(case, known) for case in range(3)]
        seconds = CostRange(*(seconds for seconds, _ in spans))
        return PoolPlan(self.name, seconds, spans[1][1], spans[2][1], unknown)

    def _longest(self, case: int, known: Mapping[str, float]) -> tuple[float, str | None]:
        """Return the time until the slowest limit admits the last row, and that limit."""
        totals = [model.total(case) for model in self.models]
        inputs = sum(use.fresh + use.written for use in totals)  # cache reads do not count against the limit
        outputs = sum(use.output for use in totals)
        amounts = {
            "requests": float(sum(model.rows for model in self.models)),
            "input tokens": inputs,
            "output tokens": outputs,
            "tokens": inputs + outputs,
        }
        burst = self.limits.burst if self.limits.burst is not None else FULL_BUCKET
        spans = {name: max(0.0, 60.0 * amounts[name] / limit - burst) for name, limit in known.items()}
        by = max(spans, key=spans.__getitem__)
        return spans[by], by if spans[by] > 0.0 else None


def _sum(ranges: Iterable[CostRange]) -> CostRange:
    return sum(ranges, CostRange(0.0, 0.0, 0.0))
