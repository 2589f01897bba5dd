"""The scenarios of the lab: what the server is like, what a client is told and has to do, what must hold."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.lab.server import World
from benchmarks.lab.workloads import Prompt, docstrings, heavy_tailed, two_kinds, uniform
from claude_executor.simulator import Change, Faults, Latency, Lengths, Neighbours, Ramp, Rates, Settings

QUICK = Latency(first_token=0.25, tokens_per_second=200.0, spread=0.2)


@dataclass(frozen=True)
class Bounds:
    """What must hold. `None` is not asked for.

    Attributes:
        share: Least possible time divided by time taken, at least.
        refused: 429s per row, at most.
        refusals: 429s in all, at most.
        attempts: Times a single row is sent, at most.
        outage_excess: Requests sent in an outage beyond those in flight when it began, at most.
    """

    share: float | None = None
    refused: float | None = None
    refusals: int | None = None
    attempts: int | None = None
    outage_excess: int | None = None


@dataclass(frozen=True)
class Scenario:
    """One row of the lab.

    Attributes:
        name: Its name.
        world: The server.
        told: What the client is told, as arguments of `Limits`.
        prompts: Makes the work from a source of chance.
        bounds: What must hold for us.
        available: Rates that are left for us, where others use the organisation or limits change; the least
            possible time is computed from them.
        concurrency: Requests in flight a client may have.
        patience: Seconds after which a contestant is stopped.
    """

    name: str
    world: World
    told: Mapping[str, float]
    prompts: Callable[[random.Random], list[Prompt]]
    bounds: Bounds
    available: Rates | None = None
    concurrency: int = 200
    patience: float = 240.0


def told(rates: Rates, **more: float) -> dict[str, float]:
    """Everything the server enforces."""
    given: dict[str, Any] = {"rpm": rates.rpm, "itpm": rates.itpm, "otpm": rates.otpm}
    return {name: value for name, value in given.items() if value is not None} | more


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
SMALL = Rates(600, None, None)
WRONG = {"rpm": 3_000.0}
SHARED = Rates(6_000, 600_000, None)

SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            "first run",
            _world(START, burst=60.0, latency=Latency(0.5, 80.0, 0.2)),
            told(START),
            docstrings(2_000),
            Bounds(share=0.9, refused=0.01),
        ),
        Scenario(
            "first run, untold",
            _world(START, burst=60.0, latency=Latency(0.5, 80.0, 0.2)),
            {},
            docstrings(2_000),
            Bounds(share=0.9, refused=0.01),
        ),
        Scenario(
            "steady", _world(STEADY), told(STEADY), heavy_tailed(7_000), Bounds(share=0.97, refused=0.005)
        ),
        Scenario(
            "output-bound",
            _world(OUTPUT),
            told(OUTPUT),
            docstrings(2_800, max_tokens=1024),
            Bounds(share=0.95, refused=0.005),
        ),
        Scenario(
            "request-bound",
            _world(REQUESTS, burst=5.0),
            told(REQUESTS),
            docstrings(1_650),
            Bounds(share=0.97, refused=0.005),
        ),
        Scenario(
            "strict",
            _world(Rates(1_200, None, None), window=1.0),
            told(Rates(1_200, None, None)),
            docstrings(1_400),
            Bounds(share=0.93, refused=0.02),
        ),
        Scenario("wrong", _world(SMALL, burst=5.0), WRONG, docstrings(650), Bounds(share=0.95, refused=0.02)),
        Scenario("untold", _world(SMALL, burst=5.0), {}, docstrings(650), Bounds(share=0.95, refused=0.02)),
        Scenario(
            "blind",
            _world(SMALL, burst=5.0, headers=False),
            WRONG,
            docstrings(650),
            Bounds(share=0.9, refused=0.10),
        ),
        Scenario(
            "shared",
            _world(SHARED, faults=Faults(neighbours=Neighbours(input_tokens=0.5))),
            told(SHARED),
            heavy_tailed(1_800),
            Bounds(share=0.93, refused=0.01),
            available=Rates(6_000, 300_000, None),
        ),
        Scenario(
            "cut",
            _world(Rates(3_000, None, None), schedule=((20.0, {"rates": Rates(1_200, None, None)}),)),
            told(Rates(3_000, None, None)),
            docstrings(2_300),
            Bounds(share=0.93, refusals=10),
        ),
        Scenario(
            "outage",
            _world(Rates(3_000, None, None), schedule=((10.0, {"outage": 8.0}),)),
            told(Rates(3_000, None, None)),
            docstrings(2_200),
            Bounds(outage_excess=10),
        ),
        Scenario(
            "faults",
            _world(
                Rates(3_000, None, None),
                faults=Faults(error_500=0.05, reset=0.03, error_502_html=0.02, garbage=0.02),
            ),
            told(Rates(3_000, None, None)),
            docstrings(2_000),
            Bounds(attempts=6),
        ),
        Scenario(
            "ramp",
            _world(Rates(6_000, 1_200_000, None), faults=Faults(ramp=Ramp(floor=25_000, step=70_000))),
            told(Rates(6_000, 1_200_000, None)),
            uniform(300, input_words=700),
            Bounds(refusals=15),
        ),
        Scenario(
            "sorted", _world(STEADY), told(STEADY), heavy_tailed(7_000, order="sorted"), Bounds(share=0.88)
        ),
        Scenario(
            "by kind", _world(STEADY), told(STEADY), two_kinds(3_000, order="by kind"), Bounds(share=0.86)
        ),
        Scenario(
            "by kind, shuffled",
            _world(STEADY),
            told(STEADY),
            two_kinds(3_000, order="shuffled"),
            Bounds(share=0.95),
        ),
        Scenario(
            "huge output",
            _world(Rates(6_000, None, 300_000), mean=500.0),
            told(Rates(6_000, None, 300_000)),
            docstrings(700, max_tokens=64_000),
            Bounds(share=0.95, refused=0.005),
        ),
    )
}

ABOUT = {
    "steady": "prompts of very different sizes",
    "output-bound": "output tokens are what is scarce",
    "request-bound": "requests are what is scarce",
    "strict": "no second may hold more than its share",
    "wrong": "told 3,000 requests a minute, given 600",
    "untold": "told of no limits at all",
    "blind": "told wrong, and no headers to correct it",
    "shared": "a neighbour uses half of the input tokens",
    "cut": "the limit falls to 40 % under way",
    "outage": "nothing but 529s for 8 seconds",
    "faults": "12 % of the answers fail or break off",
    "ramp": "growth is limited too",
    "sorted": "sorted by size, shortest first",
    "by kind": "long documents first, then short questions",
    "by kind, shuffled": "the same in mixed order",
    "huge output": "max_tokens of 64,000, answers of 500",
}
"""Each in a few words."""
