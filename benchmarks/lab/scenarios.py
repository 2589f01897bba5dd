"""The scenarios of the lab: what the server is like, what a client is told and has to do, what must hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.lab.server import World
from benchmarks.lab.workloads import (
    Maker,
    docstrings,
    heavy_tailed,
    interactive_beside_bulk,
    large_among_small,
    two_kinds,
    uniform,
)
from claude_executor.simulator import Change, Faults, Latency, Lengths, Neighbours, Ramp, Rates, Settings

QUICK = Latency(first_token=0.25, tokens_per_second=200.0, spread=0.2)
ROUND_TRIP = 0.65
"""Seconds, of an answer of 77 tokens at that speed."""


@dataclass(frozen=True)
class Bound:
    """What must hold for us: a figure is not below `least`, and not above `most`.

    Attributes:
        figure: Which attribute of `Figures`.
    """

    figure: str
    least: float | None = None
    most: float | None = None

    def held(self, value: float | None) -> bool:
        """Whether it does; a figure that could not be measured does not."""
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def share(least: float) -> Bound:
    """Least possible time divided by time taken."""
    return Bound("share", least=least)


def refused(most: float) -> Bound:
    """429s for each row."""
    return Bound("refused", most=most)


@dataclass(frozen=True)
class Scenario:
    """One row of the lab.

    Attributes:
        name: Its name.
        about: What it is about, in a few words.
        world: The server.
        told: What the client is told, as arguments of `Limits`.
        rows: How many rows there are to do.
        work: Makes them.
        bounds: What must hold for us, beside: no row is lost, and the server's verdict is clean.
        available: Rates that are left for us, where others use the organisation; the least possible time is
            computed from them.
        against: The scenario with whose time this one's is compared.
        concurrency: Requests in flight a client may have.
        patience: Seconds after which a contestant is stopped.
    """

    name: str
    about: str
    world: World
    told: Mapping[str, float]
    rows: int
    work: Maker
    bounds: tuple[Bound, ...]
    available: Rates | None = None
    against: str | None = None
    concurrency: int = 200
    patience: float = 300.0


def told(rates: Rates) -> dict[str, float]:
    """Everything the server enforces."""
    given: dict[str, Any] = {"rpm": rates.rpm, "itpm": rates.itpm, "otpm": rates.otpm}
    return {name: value for name, value in given.items() if value is not None}


def _world(
    rates: Rates,
    *,
    burst: float = 10.0,
    window: float | None = None,
    headers: bool = True,
    mean: float = 77.0,
    latency: Latency = QUICK,
    faults: Faults | None = None,
    schedule: tuple[tuple[float, Change], ...] = (),
) -> World:
    settings = Settings(
        rates=rates,
        burst=burst,
        window=window,
        headers=headers,
        latency=latency,
        output_tokens=Lengths(mean, 0.6),
    )
    return World(settings, faults or Faults(), schedule)


START = Rates(1_000, 2_000_000, 400_000)
STEADY = Rates(6_000, 1_200_000, 1_200_000)
OUTPUT = Rates(6_000, 1_200_000, 180_000)
REQUESTS = Rates(1_500, None, None)
STRICT = Rates(1_200, None, None)
SMALL = Rates(600, None, None)
WRONG = {"rpm": 3_000.0}
SHARED = Rates(6_000, 600_000, None)
MIDDLE = Rates(3_000, None, None)
RAMPED = Rates(6_000, 1_200_000, None)
INPUT = Rates(None, 600_000, None)
HUGE = Rates(6_000, None, 300_000)

_SUMMARIES = docstrings()
_FIRST_RUN = _world(START, burst=60.0, latency=Latency(0.5, 80.0, 0.2))
_ALMOST_NONE = refused(0.005)

SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            "first run",
            "limits of a new organisation, told",
            _FIRST_RUN,
            told(START),
            2_000,
            _SUMMARIES,
            (share(0.9), refused(0.01)),
        ),
        Scenario(
            "first run, untold",
            "the same, told of no limits at all",
            _FIRST_RUN,
            {},
            2_000,
            _SUMMARIES,
            (share(0.9), refused(0.01)),
        ),
        Scenario(
            "steady",
            "prompts of very different sizes",
            _world(STEADY),
            told(STEADY),
            12_000,
            heavy_tailed(),
            (share(0.97), _ALMOST_NONE),
        ),
        Scenario(
            "output-bound",
            "output tokens are what is scarce",
            _world(OUTPUT),
            told(OUTPUT),
            4_000,
            docstrings(max_tokens=1024),
            (share(0.95), _ALMOST_NONE),
        ),
        Scenario(
            "request-bound",
            "requests are what is scarce",
            _world(REQUESTS, burst=5.0),
            told(REQUESTS),
            2_500,
            _SUMMARIES,
            (share(0.97), _ALMOST_NONE),
        ),
        Scenario(
            "strict",
            "no second may hold more than its share",
            _world(STRICT, window=1.0),
            told(STRICT),
            1_400,
            _SUMMARIES,
            (share(0.93), refused(0.02)),
        ),
        Scenario(
            "wrong",
            "told 3,000 requests a minute, given 600",
            _world(SMALL, burst=5.0),
            WRONG,
            650,
            _SUMMARIES,
            (share(0.95), refused(0.02)),
        ),
        Scenario(
            "untold",
            "told of no limits at all",
            _world(SMALL, burst=5.0),
            {},
            650,
            _SUMMARIES,
            (share(0.95), refused(0.02)),
        ),
        Scenario(
            "blind",
            "told wrong, and no headers to correct it",
            _world(SMALL, burst=5.0, headers=False),
            WRONG,
            650,
            _SUMMARIES,
            (share(0.9), refused(0.10)),
        ),
        Scenario(
            "shared",
            "a neighbour uses half of the input tokens",
            _world(SHARED, faults=Faults(neighbours=Neighbours(input_tokens=0.5))),
            told(SHARED),
            1_800,
            heavy_tailed(),
            (share(0.93), refused(0.01)),
            available=Rates(6_000, 300_000, None),
        ),
        Scenario(
            "cut",
            "the limit falls to 40 % under way",
            _world(MIDDLE, schedule=((20.0, {"rates": STRICT}),)),
            told(MIDDLE),
            2_300,
            _SUMMARIES,
            (share(0.93), Bound("refused_later", most=10)),
        ),
        Scenario(
            "outage",
            "nothing but 529s for 8 seconds",
            _world(MIDDLE, schedule=((10.0, {"outage": 8.0}),)),
            told(MIDDLE),
            3_000,
            _SUMMARIES,
            (Bound("outage_excess", most=10), Bound("recovered", least=0.9)),
        ),
        Scenario(
            "faults",
            "12 % of the answers fail or break off",
            _world(MIDDLE, faults=Faults(error_500=0.05, reset=0.03, error_502_html=0.02, garbage=0.02)),
            told(MIDDLE),
            2_000,
            _SUMMARIES,
            (Bound("attempts", most=6),),
        ),
        Scenario(
            "ramp",
            "growth is limited too",
            _world(RAMPED, faults=Faults(ramp=Ramp(floor=25_000, step=70_000))),
            told(RAMPED),
            300,
            uniform(input_words=700),
            (Bound("ramp_step", most=5),),
        ),
        Scenario(
            "beside",
            "interactive requests beside a bulk run",
            _world(REQUESTS, burst=5.0),
            told(REQUESTS),
            2_000,
            interactive_beside_bulk(every=0.5),
            (share(0.95), Bound("wait_p99", most=1.0)),
        ),
        Scenario(
            "big",
            "a request of 80 % of the burst among endless small ones",
            _world(INPUT),
            told(INPUT),
            2_800,
            large_among_small(tokens=80_000, at=12.0, rate=10_000.0),
            (Bound("after_fifo", most=ROUND_TRIP),),
        ),
        Scenario(
            "sorted",
            "the rows of steady sorted by size, shortest first",
            _world(STEADY),
            told(STEADY),
            12_000,
            heavy_tailed(order="sorted"),
            (Bound("slower", most=1.1),),
            against="steady",
        ),
        Scenario(
            "by kind, shuffled",
            "input-heavy and output-heavy rows in mixed order",
            _world(OUTPUT),
            told(OUTPUT),
            3_000,
            two_kinds(order="shuffled"),
            (share(0.95),),
        ),
        Scenario(
            "by kind",
            "the same, input-heavy rows first",
            _world(OUTPUT),
            told(OUTPUT),
            3_000,
            two_kinds(order="by kind"),
            (Bound("slower", most=1.1),),
            against="by kind, shuffled",
        ),
        Scenario(
            "huge output",
            "max_tokens of 64,000, answers of 500",
            _world(HUGE, mean=500.0),
            told(HUGE),
            2_400,
            docstrings(max_tokens=64_000),
            (share(0.95), _ALMOST_NONE),
            patience=600.0,
        ),
    )
}


def with_compared(names: list[str]) -> list[str]:
    """The scenarios of these names and those that they are compared with, in the order of the table."""
    wanted = {other for name in names for other in (name, SCENARIOS[name].against)}
    return [name for name in SCENARIOS if name in wanted]
