"""What is kept of the lab's runs: records that JSON can hold, and several runs taken together in one line."""

import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.lab.contestants.roster import ROSTER, Contestant
from benchmarks.lab.measure import Figures, Trouble, complaints
from benchmarks.lab.scenarios import SCENARIOS, Scenario

OURS = "ours"


@dataclass(frozen=True)
class Run:
    """One contestant in one scenario with one seed; `judged` unless it had too little work for that."""

    scenario: Scenario
    contestant: Contestant
    seed: int
    outcome: Figures | Trouble
    judged: bool = True

    @property
    def complaints(self) -> list[str]:
        """Which bounds do not hold; only we have any."""
        if self.contestant.name != OURS:
            return []
        if isinstance(self.outcome, Trouble):
            return [self.outcome.words]
        return complaints(self.scenario, self.outcome) if self.judged else []

    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        about = {"scenario": self.scenario.name, "contestant": self.contestant.name, "seed": self.seed}
        if isinstance(self.outcome, Trouble):
            kept = about | {"outcome": self.outcome.kind} | asdict(self.outcome)
        else:
            kept = about | {"outcome": "finished"} | asdict(self.outcome) | {"share": self.outcome.share}
            if not self.contestant.names_rows:
                kept["attempts"] = None
        if self.contestant.name == OURS and self.judged:
            kept["complaints"] = self.complaints
        return kept


def as_json(
    runs: Sequence[Run], costs: Iterable[Mapping[str, Any]], versions: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Everything, for programs."""
    scenarios = {run.scenario.name: run.scenario for run in runs}
    return {
        "machine": machine(),
        "seeds": sorted({run.seed for run in runs}),
        "judged": all(run.judged for run in runs),
        "contestants": dict(versions),
        "scenarios": {
            name: {
                "about": scenario.about,
                "conditions": conditions(scenario),
                "bounds": [asdict(bound) for bound in scenario.bounds],
            }
            for name, scenario in scenarios.items()
        },
        "results": [run.record() for run in runs],
        "costs": list(costs),
    }


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several such records as one, in the order of the scenarios; what a later one measured anew counts."""
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for part in parts:
        anew: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for result in part["results"]:
            anew.setdefault((result["scenario"], result["contestant"]), []).append(result)
        results |= anew
    order, entered = list(SCENARIOS), list(ROSTER)
    keys = sorted(results, key=lambda key: (order.index(key[0]), entered.index(key[1])))
    about = {name: its for part in parts for name, its in part["scenarios"].items()}
    return {
        "machine": parts[-1]["machine"],
        "seeds": sorted({result["seed"] for group in results.values() for result in group}),
        "judged": all(part["judged"] for part in parts),
        "contestants": {name: its for part in parts for name, its in part["contestants"].items()},
        "scenarios": {name: about[name] for name in order if name in about},
        "results": [result for key in keys for result in results[key]],
        "costs": next((part["costs"] for part in reversed(parts) if part["costs"]), []),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def conditions(scenario: Scenario) -> str:
    """The server and what is told of it, in words."""
    settings = scenario.world.settings
    named = {name: getattr(settings.rates, name, None) for name in ("rpm", "itpm", "otpm")}
    enforced = _limits({name: value for name, value in named.items() if value is not None})
    window = f" and {settings.window:g} s of requests" if settings.window else ""
    told = _limits(scenario.told) or "nothing"
    given = (
        f"The server enforces {enforced} a minute, with {settings.burst:g} s of burst{window}; told: {told}."
    )
    return given if settings.headers else f"{given} No headers but retry-after."


def _limits(limits: Mapping[str, float]) -> str:
    words = {"rpm": "requests", "itpm": "input tokens", "otpm": "output tokens"}
    return ", ".join(f"{value:,.0f} {words[name]}" for name, value in limits.items())


@dataclass(frozen=True)
class Line:
    """All runs of a contestant in a scenario, taken together.

    Attributes:
        scenario: Which.
        contestant: Who.
        results: Of each run its record, the ones without a result too.
        rows: Rows asked for in each.
        lost: Of all rows of all runs with a result, those without an answer.
        share: Median of the least possible time divided by time taken; `None` where no run has a result.
        refused: Median of 429s per row.
        trouble: Why a run has no result, if one has none.
        kind: `missing`, `broke`, `stopped` or `not offered`; empty if all have a result.
    """

    scenario: str
    contestant: str
    results: tuple[dict[str, Any], ...]
    rows: int
    lost: float
    share: float | None
    refused: float | None
    trouble: str
    kind: str

    def values(self, figure: str) -> list[float]:
        """A figure in all runs that know it."""
        return [result[figure] for result in self.results if result.get(figure) is not None]

    def per_row(self, figure: str) -> list[float]:
        """Likewise, for each row."""
        return [result[figure] / result["rows"] for result in self.results if result["outcome"] == "finished"]

    @property
    def held(self) -> str:
        """In how many runs everything held that has to hold; empty for those who are not judged."""
        judged = [result["complaints"] for result in self.results if "complaints" in result]
        return f"{sum(not found for found in judged)} of {len(judged)}" if judged else ""

    @property
    def complaints(self) -> list[str]:
        """Everything that did not hold in some run."""
        return list(dict.fromkeys(c for result in self.results for c in result.get("complaints", ())))


def lines(results: Iterable[dict[str, Any]]) -> list[Line]:
    """Take together what belongs together, from the records of `as_json`."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["scenario"], result["contestant"]), []).append(result)
    return [_line(scenario, contestant, group) for (scenario, contestant), group in groups.items()]


def _line(scenario: str, contestant: str, group: list[dict[str, Any]]) -> Line:
    done = [r for r in group if r["outcome"] == "finished"]
    wrong = [r for r in group if r["outcome"] != "finished"]
    refused = [r["refused"] for r in group if r.get("refused") is not None]
    rows = sum(r["rows"] for r in done)
    return Line(
        scenario,
        contestant,
        tuple(group),
        rows // len(done) if done else 0,
        sum(r["failed"] for r in done) / rows if rows else 0.0,
        statistics.median(r["share"] for r in done) if done else None,
        statistics.median(refused) if refused else None,
        wrong[0]["words"] if wrong else "",
        wrong[0]["outcome"] if wrong else "",
    )


def bounded(kept: Mapping[str, Any], scenario: str) -> list[str]:
    """The figures that matter in a scenario and have no column of their own."""
    figures = [bound["figure"] for bound in kept["scenarios"][scenario]["bounds"]]
    return [figure for figure in figures if figure not in ("share", "refused", "attempts")]


def versions_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Of every contestant, what it consists of."""
    return {name: ROSTER[name].versions() for name in names}
