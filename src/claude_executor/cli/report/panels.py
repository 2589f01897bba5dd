"""The charts of the report: which there are, what each shows, and its description in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from claude_executor import HeldBy
from claude_executor.bulk.report import PERCENTILES, Steps
from claude_executor.cli.report.figures import LONG, Canvas, Curve
from claude_executor.cli.terminal.format import amount, count, money, percent, span

if TYPE_CHECKING:
    from claude_executor.bulk.report import Account, LimitUse
    from claude_executor.bulk.report.lines import Floats

MOST_LIMITS = 6
MOST_POOLS = 3
BARS = 60
"""Bars in a chart. More would be too thin to see."""
ROOM = 1.5
"""How far above a limit a chart reaches. The burst of a full bucket would flatten the rest."""
BRIEF = 0.1
"""Fraction of the time for which usage may exceed that and be cut off. Beyond it, all is shown."""

# A timeline names what held a queue by the values of `HeldBy`.
_COLOR: dict[str, str] = {
    HeldBy.REQUESTS: "requests",
    HeldBy.INPUT: "input",
    HeldBy.OUTPUT: "output",
    HeldBy.TOKENS: "output",
    HeldBy.CONCURRENCY: "concurrency",
    HeldBy.BREAKER: "breaker",
    HeldBy.RETRY_AFTER: "waiting",
    HeldBy.RAMP_UP: "starting",
    HeldBy.CONNECTIONS: "starting",
}
_NAMES: dict[str, str] = {
    HeldBy.BREAKER: "circuit breaker (API overloaded or failing)",
    HeldBy.RETRY_AFTER: "retry-after (429)",
    HeldBy.CONCURRENCY: "concurrency limit",
    HeldBy.SPENDING: "the spending cap",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart with its texts.

    Attributes:
        title: Title.
        svg: The chart.
        says: Description in a sentence.
        legend: Names and colors of the series.
    """

    title: str
    svg: str
    says: str
    legend: tuple[tuple[str, str], ...] = ()


class Panels:
    """The charts of one account. Charts that would be empty are left out."""

    def __init__(self, account: Account) -> None:
        """Compute what all charts share."""
        self._account = account
        self._steps = Steps.of(account.axis.length)
        self._bars = Steps.of(account.axis.length, BARS)
        self._told = account.line_times
        came = account.arrived_at
        self._timed = ~np.isnan(came)
        self._came = came[self._timed]
        self._pools = account.history.pools[:MOST_POOLS]
        self._drawn = 0

    def throughput(self) -> list[Panel]:
        """Charts of rows per minute, of the usage of every limit, and of requests in flight."""
        panels: list[Panel] = []
        if len(self._came):
            rate = self._steps.rate(self._came, np.ones(len(self._came)))
            canvas = self._canvas()
            canvas.line(Curve("rows", "rows", rate), filled=True)
            says = f"{amount(self._account.rows_per_minute or 0.0)} results per minute on average."
            panels.append(self._panel("Rows per minute", canvas, says))
        panels += [self._limit(use) for use in self._account.uses[:MOST_LIMITS]]
        return panels + [self._in_flight(pool) for pool in self._pools]

    def _limit(self, use: LimitUse) -> Panel:
        history = self._account.history
        color = _COLOR.get(use.resource, "error")
        limits = history.limits(use.pool)[use.resource]
        since = self._account.axis.seconds(np.array([limit.at for limit in limits]))
        used = history.amounts(use.pool, "used").get(use.resource, np.zeros(len(self._told)))
        canvas = self._canvas()
        held = history.amounts(use.pool, "held").get(use.resource)
        legend = [("used", color), (f"the limit, {amount(use.limit.limit)} at the end", "ink dashed")]
        if held is not None and (shares := self._steps.shares(self._told, held)).max(initial=0.0) >= 0.5:
            canvas.shade(shares, color)
            legend.append(("this limit held the queue", f"{color} shade"))
        rate = self._steps.rate(self._told, used, gradual=True)
        limited = np.array([limit.limit for limit in limits])
        canvas.line(Curve("used", color, rate), filled=True)
        room = ROOM if (rate > ROOM * limited.max()).mean() <= BRIEF else None
        canvas.ceiling(since, limited, above=room)
        says = f"{percent(use.share)} of the limit was used, at most {amount(rate.max())} per minute."
        if use.held >= 1:
            says += f" It held the queue for {span(use.held)}."
        return self._panel(
            f"{use.resource.capitalize()} per minute{self._of(use.pool)}", canvas, says, legend
        )

    def _in_flight(self, pool: str) -> Panel:
        history = self._account.history
        running, allowed = history.now(pool, "running"), history.now(pool, "concurrency")
        canvas = self._canvas()
        drawn = self._steps.sampled(self._told, running)
        canvas.line(Curve("in flight", "concurrency", drawn), filled=True)
        canvas.ceiling(self._told, allowed, above=1.08)
        says = f"At most {count(int(running.max(initial=0)), 'request')} at once."
        legend = [("in flight", "concurrency"), ("concurrency limit", "ink dashed")]
        return self._panel(f"Requests in flight{self._of(pool)}", canvas, says, legend)

    def holding(self) -> list[Panel]:
        """Charts of what limited throughput, and of how full the buckets were."""
        panels: list[Panel] = []
        for pool in self._pools:
            if held := self._account.history.amounts(pool, "held"):
                panels.append(self._held(pool, held))
            panels += self._levels(pool)
        return panels

    def _held(self, pool: str, held: dict[str, Floats]) -> Panel:
        causes = sorted(held, key=lambda why: list(_COLOR).index(why) if why in _COLOR else -1)
        curves = [
            Curve(why, _COLOR.get(why, "error"), self._steps.shares(self._told, held[why])) for why in causes
        ]
        canvas = self._canvas()
        canvas.stack(curves, whole=1.0)
        canvas.numbers("percent")
        spans = {why: float(held[why].sum()) for why in sorted(held, key=lambda why: -held[why].sum())}
        says = "; ".join(f"{_NAMES.get(why, why)} for {span(seconds)}" for why, seconds in spans.items())
        legend = [(_NAMES.get(why, why), _COLOR.get(why, "error")) for why in causes]
        legend.append(("nothing", "free"))
        return self._panel(f"Share of the time{self._of(pool)}", canvas, f"Limited by {says}.", legend)

    def _levels(self, pool: str) -> list[Panel]:
        history = self._account.history
        found = {name: history.levels(pool, name) for name in history.limits(pool)}
        levels = {name: level for name, level in found.items() if not np.isnan(level).all()}
        if not levels:
            return []
        canvas = self._canvas()
        for name, level in levels.items():
            drawn = np.maximum(-0.5, self._steps.sampled(self._told, level))
            canvas.line(Curve(name, _COLOR.get(name, "error"), drawn))
        canvas.numbers("percent")
        medians = {name: max(0.0, float(np.nanmedian(level))) for name, level in levels.items()}
        says = "Median: " + ", ".join(f"{name} {percent(level)}" for name, level in medians.items())
        legend = [(name, _COLOR.get(name, "error")) for name in levels]
        return [self._panel(f"How full each bucket was{self._of(pool)}", canvas, f"{says}.", legend)]

    def times(self) -> list[Panel]:
        """Charts of response times and waiting times."""
        rows = self._account.rows
        answered = rows.succeeded[self._timed]
        panels: list[Panel] = []
        for title, values in (("Response time", rows.duration), ("Time in the queue", rows.queue_time)):
            known = np.where(answered, values[self._timed], np.nan)
            if np.isnan(known).all():
                continue
            found = self._steps.percentiles(self._came, known)
            canvas = self._canvas()
            for part, color in zip(reversed(PERCENTILES), ("high", "middle", "low"), strict=True):
                canvas.line(Curve(f"{part} %", color, found[part]))
            canvas.numbers("seconds")
            legend = [
                (f"{part} % took at most this", color)
                for part, color in zip(PERCENTILES, ("low", "middle", "high"), strict=True)
            ]
            median, most = (float(np.nanpercentile(known, part)) for part in (50, 99))
            says = f"Half of them within {_seconds(median)}, 99 % within {_seconds(most)}."
            panels.append(self._panel(title, canvas, says, legend))
        return panels

    def trouble(self) -> list[Panel]:
        """Charts of failed attempts and of retries."""
        history, account = self._account.history, self._account
        if not history:
            return self._retries_of_rows()
        kinds = [("429", "429: rate limited", "refusal"), ("529", "529: overloaded", "overload")]
        kinds.append(("errors", "other failed attempts", "error"))
        counted = {name: history.counts(name) for name, _, _ in kinds}
        others = int(counted["errors"].sum())
        panels: list[Panel] = []
        if account.refusals or account.overloads or others:
            canvas = self._canvas(self._bars)
            canvas.stack(
                [Curve(name, color, self._bars.counts(self._told, counted[name])) for name, _, color in kinds]
            )
            says = (
                f"{count(account.refusals or 0, '429')}, {count(account.overloads or 0, '529')}, "
                f"{count(others, 'other failure', 'other failures')}."
            )
            legend = [(label, color) for _, label, color in kinds]
            panels.append(self._panel(f"Failed attempts per {self._bar}", canvas, says, legend))
        return panels + self._retries(self._told, history.counts("retries"))

    @property
    def _bar(self) -> str:
        width = _seconds(self._bars.width)
        return "second" if width == "1 s" else width

    def _retries(self, seconds: Floats, retries: Floats) -> list[Panel]:
        if not retries.any():
            return []
        canvas = self._canvas(self._bars)
        canvas.stack([Curve("retries", "retry", self._bars.counts(seconds, retries))])
        says = f"{count(int(retries.sum()), 'attempt')} that repeated an earlier one."
        return [self._panel(f"Retries per {self._bar}", canvas, says)]

    def _retries_of_rows(self) -> list[Panel]:
        again = np.maximum(0.0, self._account.rows.attempts[self._timed] - 1.0)
        return self._retries(self._came, np.nan_to_num(again))

    def cost(self) -> list[Panel]:
        """Chart of the cost so far."""
        dollars = np.nan_to_num(self._account.rows.dollars[self._timed])
        if not len(dollars) or not dollars.any():
            return []
        canvas = self._canvas()
        canvas.line(Curve("cost", "money", self._steps.so_far(self._came, dollars)), filled=True)
        canvas.numbers("dollars")
        says = f"{money(float(dollars.sum()))} in total, at published prices."
        return [self._panel("Cost so far", canvas, says)]

    def _canvas(self, steps: Steps | None = None) -> Canvas:
        return Canvas(steps or self._steps, self._account.axis.seams)

    def _panel(
        self, title: str, canvas: Canvas, says: str, legend: list[tuple[str, str]] | None = None
    ) -> Panel:
        self._drawn += 1
        svg = canvas.svg(f"f{self._drawn}", f"{title}. {says}")
        return Panel(title, svg, says, tuple(legend or ()))

    def _of(self, pool: str) -> str:
        return f", {pool}" if len(self._account.history.pools) > 1 else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2g} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < LONG else span(seconds)
