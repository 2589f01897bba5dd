"""From what the server saw to the figures of the lab."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from benchmarks.lab.scenarios import Scenario
from benchmarks.lab.server import Exchange
from benchmarks.lab.workloads import Work, input_tokens
from claude_executor.simulator import EPOCH, Rates

RECOVERY = 3.0
"""Seconds after the end of an outage from which on the rate should be back."""
SPANS = (0.0, 5.0, 10.0)
"""Seconds; between each and the next the rate is looked at."""


@dataclass(frozen=True)
class Word:
    """How a figure is called and written, and what it means where its name does not say."""

    name: str
    form: str
    unit: str = ""
    meaning: str = ""


WORDS = {
    "share": Word("share", ".3f"),
    "refused": Word("429s/row", ".2%"),
    "attempts": Word("sent", ".0f"),
    "refused_later": Word("after cut", ".0f", " 429s", "429s from the moment the limit was cut"),
    "outage_excess": Word(
        "in outage", "+.0f", "", "requests sent while it lasted, less those in flight when it began"
    ),
    "recovered": Word(
        "rate after",
        ".0%",
        "",
        "requests let in from 3 s to 8 s after the outage, or from 8 s to 13 s if less",
    ),
    "ramp_step": Word("in a step", ".0f", " 429s", "the most 429s for growth in one of the server's minutes"),
    "wait_p99": Word(
        "wait p99", ".2f", " s", "of the interactive requests, from being submitted to arriving at the server"
    ),
    "after_fifo": Word(
        "after FIFO",
        "+.2f",
        " s",
        "the large request's start, after that in order of arrival at the full rate",
    ),
    "slower": Word("against mixed", ".2f", "", "time divided by that of the same rows in mixed order"),
}
"""Of all figures that are bounded."""


def written(figure: str, value: float | None) -> str:
    """A figure with its unit."""
    word = WORDS[figure]
    return "not known" if value is None else format(value, word.form) + word.unit


def must_hold(bound: Mapping[str, Any]) -> str:
    """A bound in words, from what `asdict` makes of it."""
    figure = bound["figure"]
    limits = (("≥", bound["least"]), ("≤", bound["most"]))
    said = [f"{sign} {written(figure, limit)}" for sign, limit in limits if limit is not None]
    return f"{WORDS[figure].name} {' and '.join(said)}"


@dataclass(frozen=True)
class Figures:
    """One contestant in one scenario. `None`: does not arise there.

    Attributes:
        rows: Rows asked for.
        failed: Rows without an answer.
        took: Seconds from the start to the last answer.
        least: Least possible seconds.
        refused: 429s per row.
        refusals: 429s.
        attempts: The most often a single row was sent.
        duplicates: Answers delivered for rows that had been answered.
        cpu: Processor seconds of the contestant.
        peak_mb: Its peak memory.
        findings: What the server found wrong with the client, and how often.
        refused_later: 429s after the first change that was scheduled.
        outage_excess: Requests sent in an outage beyond those in flight when it began.
        recovered: Requests let in from 3 s to 8 s after the end of an outage, or from 8 s to 13 s if that is
            less, as a share of what the limit refills in that time.
        ramp_step: The most 429s for growth in one of the server's minutes.
        wait_p99: Seconds from when an interactive request was submitted until the attempt that was answered
            came in at the server: the time it took less the time the server took. Of all of them, the 99th
            percentile.
        after_fifo: Seconds by which the large request came in (likewise) after a bucket that serves in order
            of arrival would have let it in; negative if earlier.
        slower: Time divided by that of the scenario it is compared with.
    """

    rows: int
    failed: int
    took: float
    least: float
    refused: float
    refusals: int
    attempts: int
    duplicates: int
    cpu: float
    peak_mb: float
    findings: dict[str, int]
    refused_later: int | None = None
    outage_excess: int | None = None
    recovered: float | None = None
    ramp_step: int | None = None
    wait_p99: float | None = None
    after_fifo: float | None = None
    slower: float | None = None

    @property
    def share(self) -> float:
        """Least possible time divided by time taken; 0 where rows are missing."""
        return 0.0 if self.failed else self.least / self.took


@dataclass(frozen=True)
class Trouble:
    """Why there are no figures.

    Attributes:
        kind: Its environment cannot be made, it ended with an error, it took too long, or it cannot be given
            such work at all.
        words: For people.
        refused: 429s per row until then, where it got so far.
        answered: Share of the rows that had been answered by then.
    """

    kind: Literal["missing", "broke", "stopped", "not offered"]
    words: str
    refused: float | None = None
    answered: float | None = None


@dataclass(frozen=True)
class Seen:
    """All that is known of a run.

    Attributes:
        stats: The server's counters.
        verdict: Its judgement.
        log: The requests it got.
        ran: What the contestant says of itself.
    """

    stats: Mapping[str, Any]
    verdict: Mapping[str, Any]
    log: list[Exchange]
    ran: Mapping[str, Any]


def figures(scenario: Scenario, work: Work, seen: Seen) -> Figures:
    """Put together what the server saw and what the contestant says of itself."""
    stats, verdict, ran = seen.stats, seen.verdict, seen.ran
    refusals = [request for request in seen.log if request.status == 429]
    changes = [stats["started_at"] + after for after, _ in scenario.world.schedule]
    in_flight = verdict["in_flight_at_outage"]
    minutes = Counter(int(EPOCH + r.at - stats["started_at"]) // 60 for r in refusals if r.ramp)
    return Figures(
        rows=ran["rows"],
        failed=ran["failed"],
        took=ran["took"],
        least=least_time(scenario, seen),
        refused=len(refusals) / max(1, ran["rows"]),
        refusals=len(refusals),
        attempts=verdict["most_attempts"],
        duplicates=verdict["duplicates"],
        cpu=ran["cpu"],
        peak_mb=ran["peak_mb"],
        findings=verdict["findings"],
        refused_later=sum(r.at >= changes[0] for r in refusals) if changes else None,
        outage_excess=verdict["sent_in_outage"] - sum(in_flight) if in_flight else None,
        recovered=recovered(scenario, seen),
        ramp_step=max(minutes.values(), default=0) if scenario.world.faults.ramp else None,
        wait_p99=wait_p99(work, seen),
        after_fifo=after_fifo(scenario, work, seen),
    )


def least_time(scenario: Scenario, seen: Seen) -> float:
    """The largest over the resources of (work - burst) / rate, in seconds."""
    settings = scenario.world.settings
    full = settings.rates
    assert isinstance(full, Rates)
    available = scenario.available or full
    tokens = list(seen.stats["tokens"].values())
    work = {
        "rpm": float(seen.stats["by_status"].get("200", 0)),
        "itpm": float(sum(t["input"] + t["cache_written"] for t in tokens)),
        "otpm": float(sum(t["output"] for t in tokens)),
    }
    lag = seen.stats["started_at"] - seen.ran["began"]  # the server's clock starts with the first request
    least = 0.0
    for name, amount in work.items():
        rate, whole = getattr(available, name), getattr(full, name)
        if rate is None:
            continue
        seconds = min(settings.burst, settings.window or settings.burst) if name == "rpm" else settings.burst
        least = max(least, _time_for(amount - seconds * whole / 60.0, name, rate, scenario, lag))
    return least


def _time_for(amount: float, name: str, rate: float, scenario: Scenario, lag: float) -> float:
    """Seconds in which so much is refilled, across a change of rates that the scenario's schedule brings."""
    for after, change in scenario.world.schedule:
        if isinstance(change, Mapping) and isinstance(change.get("rates"), Rates):
            at = after + lag
            before = rate / 60.0 * at
            if amount <= before:
                return amount * 60.0 / rate
            later = float(getattr(change["rates"], name))
            return at + (amount - before) * 60.0 / later
    return max(0.0, amount) * 60.0 / rate


def recovered(scenario: Scenario, seen: Seen) -> float | None:
    """See `Figures`. Every request counts for one, so the limit on requests has to be the one that binds."""
    rates = scenario.world.settings.rates
    assert isinstance(rates, Rates)
    for after, change in scenario.world.schedule:
        if isinstance(change, Mapping) and "outage" in change and rates.rpm is not None:
            back_at = float(seen.stats["started_at"] + after + change["outage"] + RECOVERY)
            return min(
                sum(r.status == 200 and back_at + begin <= r.at < back_at + end for r in seen.log)
                / (rates.rpm / 60.0 * (end - begin))
                for begin, end in pairwise(SPANS)
            )
    return None


def wait_p99(work: Work, seen: Seen) -> float | None:
    """See `Figures`. A request that was never answered has waited as long as the run took."""
    if not any(work.priorities):
        return None
    waits = sorted(wait for number, wait in _waits(work, seen) if work.priorities[number])
    return waits[math.ceil(0.99 * len(waits)) - 1] if waits else None


def after_fifo(scenario: Scenario, work: Work, seen: Seen) -> float | None:
    """See `Figures`. What came before it is what the client was given before, however it orders its work."""
    submitted = _submitted(seen)
    if work.large is None or work.large not in submitted:
        return None
    rates, burst = scenario.world.settings.rates, scenario.world.settings.burst
    assert isinstance(rates, Rates)
    assert rates.itpm is not None
    rate = rates.itpm / 60.0
    came = submitted[work.large]
    tokens = sum(input_tokens(work.prompts[number]) for number, at in submitted.items() if at <= came)
    in_turn = max(came, min(submitted.values()) + tokens / rate - burst)
    return came + dict(_waits(work, seen))[work.large] - in_turn


def _waits(work: Work, seen: Seen) -> Iterator[tuple[int, float]]:
    """For every row by number: seconds from being submitted until the attempt that was answered came in."""
    answered = {request.row: request.at for request in seen.log if request.status == 200}
    for number, submitted in _submitted(seen).items():
        came_in = answered.get(work.prompts[number]["metadata"]["user_id"])
        yield number, seen.ran["took"] if came_in is None else came_in - submitted


def _submitted(seen: Seen) -> dict[int, float]:
    return {int(number): at for number, at in seen.ran["submitted"].items()}


def complaints(scenario: Scenario, f: Figures) -> list[str]:
    """Which bounds do not hold."""
    found = [f"{f.failed} of {f.rows} rows failed"] if f.failed else []
    for bound in scenario.bounds:
        value = getattr(f, bound.figure)
        if not bound.held(value):
            found.append(f"{written(bound.figure, value)}, not {must_hold(asdict(bound))}")
    if f.findings:
        found.append("verdict not clean: " + ", ".join(f.findings))
    return found
