"""What a job will take, before it is paid for: tokens, money and time, each with how far off it may be.

Nothing is sent for it. Input is estimated from its bytes, or counted in part (see `count_tokens`). Output is
not known before there are answers: it lies between nothing and `max_tokens`, and so do money and time. What
has no known price or no known limit is said to be unknown.
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
"""Standard deviations on either side: in 19 of 20 cases the truth is between."""
FULL_BUCKET = 60.0
"""Seconds' worth of a limit that may be used at once, where nothing else is said."""

_DECLARED = {"rpm": "requests", "itpm": "input tokens", "otpm": "output tokens", "tpm": "tokens"}
_Sums = dict[tuple[float, int], list[float]]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What the rows of one model will take.

    Attributes:
        model: The model.
        rows: Its rows.
        input_tokens: All input, cached or not.
        output_tokens: Output; at most `max_tokens` of every row.
        cache_read_tokens: Input that is probably read from the prompt cache.
        cache_written_tokens: Input that is probably written to it.
        dollars: The price; `None` if the model has none that is known.
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
    """How long the rows of one pool of models will take at least.

    Attributes:
        pool: Its name.
        seconds: How long; `None` if no limit of it is known.
        limited_by: The limit that binds longest by the best guess; `None` if none does.
        limited_by_at_most: The same if every answer is as long as it may be.
        unknown: The limits that were not told, and that may bind before the others.
    """

    pool: str
    seconds: CostRange | None
    limited_by: str | None
    limited_by_at_most: str | None
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job will take.

    Attributes:
        models: What each model's rows will take.
        pools: How long each pool's rows will take, the longest first.
        counted: What was counted instead of estimated, if anything was.
    """

    models: tuple[ModelPlan, ...]
    pools: tuple[PoolPlan, ...]
    counted: TokenSample | None = None

    @property
    def rows(self) -> int:
        """Rows there are."""
        return sum(model.rows for model in self.models)

    @property
    def input_tokens(self) -> CostRange:
        """All input."""
        return _sum(model.input_tokens for model in self.models)

    @property
    def output_tokens(self) -> CostRange:
        """All output."""
        return _sum(model.output_tokens for model in self.models)

    @property
    def dollars(self) -> CostRange | None:
        """The price of everything; `None` as soon as one price is not known."""
        known = [model.dollars for model in self.models if model.dollars is not None]
        return _sum(known) if len(known) == len(self.models) else None

    @property
    def seconds(self) -> CostRange | None:
        """The time of everything; pools do not wait for each other. `None` if one of them is not known."""
        known = [pool.seconds for pool in self.pools if pool.seconds is not None]
        if len(known) < len(self.pools):
            return None
        return CostRange(
            max((span.low for span in known), default=0.0),
            max((span.guess for span in known), default=0.0),
            max((span.high for span in known), default=0.0),
        )

    def as_dict(self) -> dict[str, object]:
        """The same as plain values, for JSON."""
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
    """Add up what the rows of a source will take.

    Args:
        source: A source that has been checked.
        defaults: What its lines may leave out.
        limits: Those that are known, as for an `Executor`.
        counted: What some of the rows took, from `count_tokens`.
    """
    prices, foresight = Prices(), Forecaster()
    models: dict[str, _Model] = {}
    pools: dict[str, _Pool] = {}
    for row in rows_of(source, defaults):
        estimate = Estimate.of(row.params)
        model = models.get(estimate.model)
        if model is None:
            model = models[estimate.model] = _Model(estimate, counted, prices)
            pool = pools.setdefault(estimate.pool, _Pool(estimate.pool, estimate.limits_in(limits)))
            pool.models.append(model)
        times = factor(speed=row.params.get("speed"), geo=row.params.get("inference_geo"))
        model.add(foresight.cases(estimate, row.params, model.ratio), times)
    timed = [pool.planned() for pool in pools.values()]
    timed.sort(key=lambda pool: -pool.seconds.guess if pool.seconds is not None else 0.0)
    return Plan(tuple(model.planned() for model in models.values()), tuple(timed), counted)


class _Model:
    """Sums over the rows of one model, in each case.

    Prices are a matter of sums as long as nothing that changes them does: rows are put together by what
    multiplies their price, and by the step of the price list their prompt is on.
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
        """The sums in one case."""
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
    """What the estimates of a model are to be multiplied by."""
    ratio, error = 1.0, estimate.error
    if counted is not None and (found := counted.models.get(estimate.model)) is not None:
        ratio = found.ratio
        error = found.error if found.error is not None else error
    return CostRange(ratio * max(0.0, 1.0 - SURE * error), ratio, ratio * (1.0 + SURE * error))


@dataclass(slots=True)
class _Pool:
    """The models that share limits."""

    name: str
    limits: Limits
    models: list[_Model] = field(default_factory=list[_Model])

    def planned(self) -> PoolPlan:
        told = {
            resource: float(limit)
            for name, resource in _DECLARED.items()
            if (limit := getattr(self.limits, name)) is not None
        }
        unknown = tuple(
            resource for name, resource in _DECLARED.items() if name != "tpm" and resource not in told
        )
        if not told:
            return PoolPlan(self.name, None, None, None, unknown)
        spans = [self._longest(case, told) for case in range(3)]
        seconds = CostRange(*(seconds for seconds, _ in spans))
        return PoolPlan(self.name, seconds, spans[1][1], spans[2][1], unknown)

    def _longest(self, case: int, told: Mapping[str, float]) -> tuple[float, str | None]:
        """Seconds until the last limit lets the last row go: a full bucket at once, the rest at its rate."""
        totals = [model.total(case) for model in self.models]
        inputs = sum(use.fresh + use.written for use in totals)  # reading the cache is free of the limit
        outputs = sum(use.output for use in totals)
        amounts = {
            "requests": float(sum(model.rows for model in self.models)),
            "input tokens": inputs,
            "output tokens": outputs,
            "tokens": inputs + outputs,
        }
        burst = self.limits.burst if self.limits.burst is not None else FULL_BUCKET
        spans = {name: max(0.0, 60.0 * amounts[name] / limit - burst) for name, limit in told.items()}
        by = max(spans, key=spans.__getitem__)
        return spans[by], by if spans[by] > 0.0 else None


def _sum(ranges: Iterable[CostRange]) -> CostRange:
    return sum(ranges, CostRange(0.0, 0.0, 0.0))
