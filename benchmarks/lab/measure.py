"""From what the server counted to the figures of the lab."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.lab.scenarios import Scenario
from claude_executor.simulator import Rates


@dataclass(frozen=True)
class Figures:
    """One contestant in one scenario.

    Attributes:
        rows: Rows asked for.
        failed: Rows without an answer.
        took: Seconds from the start to the last answer.
        least: Least possible seconds.
        refused: 429s per row.
        refusals: 429s.
        attempts: The most often a single row was sent.
        duplicates: Answers delivered for rows that had been answered.
        outage_excess: Requests sent in an outage beyond those in flight when it began.
        cpu: Processor seconds of the contestant.
        peak_mb: Its peak memory.
        clean: The server's verdict.
    """

    rows: int
    failed: int
    took: float
    least: float
    refused: float
    refusals: int
    attempts: int
    duplicates: int
    outage_excess: int
    cpu: float
    peak_mb: float
    clean: bool

    @property
    def share(self) -> float:
        """Least possible time divided by time taken; 0 where rows are missing."""
        return 0.0 if self.failed else self.least / self.took


@dataclass(frozen=True)
class Trouble:
    """Why there are no figures.

    Attributes:
        kind: Its environment cannot be made, it ended with an error, or it took too long.
        words: For people.
        refused: 429s per row until then, where it got so far.
        answered: Share of the rows that had been answered by then.
    """

    kind: Literal["missing", "broke", "stopped"]
    words: str
    refused: float | None = None
    answered: float | None = None


def least_time(scenario: Scenario, stats: Mapping[str, Any]) -> float:
    """The largest over the resources of (work - burst) / rate, in seconds."""
    settings = scenario.world.settings
    full = settings.rates
    assert isinstance(full, Rates)
    available = scenario.available or full
    tokens = list(stats["tokens"].values())
    work = {
        "rpm": float(stats["by_status"].get("200", 0)),
        "itpm": float(sum(t["input"] + t["cache_written"] for t in tokens)),
        "otpm": float(sum(t["output"] for t in tokens)),
    }
    least = 0.0
    for name, amount in work.items():
        rate, whole = getattr(available, name), getattr(full, name)
        if rate is None:
            continue
        seconds = min(settings.burst, settings.window or settings.burst) if name == "rpm" else settings.burst
        least = max(least, _time_for(amount - seconds * whole / 60.0, name, rate, scenario))
    return least


def _time_for(amount: float, name: str, rate: float, scenario: Scenario) -> float:
    """Seconds in which so much is refilled, across a change of rates that the scenario's schedule brings."""
    for at, change in scenario.world.schedule:
        if isinstance(change, Mapping) and isinstance(change.get("rates"), Rates):
            before = rate / 60.0 * at
            if amount <= before:
                return amount * 60.0 / rate
            return at + (amount - before) * 60.0 / getattr(change["rates"], name)
    return max(0.0, amount) * 60.0 / rate


def figures(
    scenario: Scenario, stats: Mapping[str, Any], verdict: Mapping[str, Any], ran: Mapping[str, Any]
) -> Figures:
    """Put together what the server counted and what the contestant says of itself."""
    refusals = int(stats["by_status"].get("429", 0))
    in_flight = sum(verdict["in_flight_at_outage"])
    return Figures(
        rows=ran["rows"],
        failed=ran["failed"],
        took=ran["took"],
        least=least_time(scenario, stats),
        refused=refusals / max(1, ran["rows"]),
        refusals=refusals,
        attempts=verdict["most_attempts"],
        duplicates=verdict["duplicates"],
        outage_excess=verdict["sent_in_outage"] - in_flight,
        cpu=ran["cpu"],
        peak_mb=ran["peak_mb"],
        clean=verdict["clean"],
    )


def complaints(scenario: Scenario, f: Figures) -> list[str]:
    """Which bounds do not hold."""
    b = scenario.bounds
    found = [f"{f.failed} of {f.rows} rows failed"] if f.failed else []
    if b.share is not None and f.share < b.share:
        found.append(f"share {f.share:.3f} < {b.share}")
    if b.refused is not None and f.refused > b.refused:
        found.append(f"429s {f.refused:.2%} > {b.refused:.1%}")
    if b.refusals is not None and f.refusals > b.refusals:
        found.append(f"{f.refusals} 429s > {b.refusals}")
    if b.attempts is not None and f.attempts > b.attempts:
        found.append(f"a row was sent {f.attempts} times > {b.attempts}")
    if b.outage_excess is not None and f.outage_excess > b.outage_excess:
        found.append(f"{f.outage_excess} requests sent in the outage > {b.outage_excess}")
    if not f.clean:
        found.append("verdict not clean")
    return found
