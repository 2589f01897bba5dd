"""How results are shown: a table for the terminal, JSON for programs, Markdown for readers."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.lab.contestants.roster import ROSTER, Contestant
from benchmarks.lab.measure import Figures, Trouble, complaints
from benchmarks.lab.scenarios import ABOUT, SCENARIOS, Scenario

OURS = "ours"
OUR_PACKAGES = ("claude-executor", "anthropic", "aiohttp", "httpx2", "uvicorn")
HEADINGS = ("failed", "seconds", "share", "429s/row", "sent", "CPU ms", "MB")
LEGEND = (
    "share: least possible time / time taken (0 with rows missing) · 429s/row: refusals for each row · "
    "sent: most often for one row · CPU ms: of the contestant, per row"
)


@dataclass(frozen=True)
class Run:
    """One contestant in one scenario with one seed."""

    scenario: Scenario
    contestant: Contestant
    seed: int
    outcome: Figures | Trouble

    @property
    def complaints(self) -> list[str]:
        """Which bounds do not hold; only we have any."""
        if self.contestant.name != OURS:
            return []
        if isinstance(self.outcome, Trouble):
            return [self.outcome.words]
        return complaints(self.scenario, self.outcome)

    def cells(self) -> list[str]:
        """What the columns of `HEADINGS` say of it."""
        f = self.outcome
        if isinstance(f, Trouble):
            return ["-", "-", "-", "-" if f.refused is None else _few(f.refused), "-", "-", "-"]
        return [
            str(f.failed),
            f"{f.took:.1f}",
            f"{f.share:.3f}",
            _few(f.refused),
            str(f.attempts) if self.contestant.names_rows else "-",
            f"{1000 * f.cpu / f.rows:.1f}",
            f"{f.peak_mb:.0f}",
        ]

    def remark(self) -> str:
        """In words: what is wrong, or that nothing is."""
        if isinstance(self.outcome, Trouble):
            return self.outcome.words
        if self.contestant.name == OURS:
            return "; ".join(self.complaints) or "ok"
        return ""

    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        about = {"scenario": self.scenario.name, "contestant": self.contestant.name, "seed": self.seed}
        if isinstance(self.outcome, Trouble):
            return about | {"outcome": self.outcome.kind} | asdict(self.outcome)
        kept = about | {"outcome": "finished"} | asdict(self.outcome) | {"share": self.outcome.share}
        if self.contestant.name == OURS:
            kept["complaints"] = self.complaints
        return kept


def table(runs: Sequence[Run]) -> Table:
    """A section for each scenario; within 100 columns."""
    several = len({run.seed for run in runs}) > 1
    grid = Table(box=SIMPLE_HEAD, caption=LEGEND, caption_justify="left", padding=(0, 1, 0, 0))
    grid.add_column("scenario, contestant", no_wrap=True)
    if several:
        grid.add_column("seed", justify="right", no_wrap=True)
    for heading in HEADINGS:
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("", overflow="fold")
    for name in dict.fromkeys(run.scenario.name for run in runs):
        grid.add_section()
        grid.add_row(f"[bold]{name}[/]")
        for run in (run for run in runs if run.scenario.name == name):
            seed = [str(run.seed)] if several else []
            grid.add_row(f"  {run.contestant.name}", *seed, *run.cells(), run.remark(), style=_style(run))
    return grid


def _style(run: Run) -> str:
    if run.contestant.name == OURS:
        return "bold red" if run.complaints else "bold green"
    return "yellow" if isinstance(run.outcome, Trouble) or run.outcome.failed else ""


def as_json(runs: Iterable[Run]) -> dict[str, Any]:
    """Everything, for programs."""
    runs = list(runs)
    return {
        "machine": machine(),
        "contestants": {
            name: list(ROSTER[name].requirements) for name in dict.fromkeys(r.contestant.name for r in runs)
        },
        "results": [run.record() for run in runs],
    }


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{os.cpu_count()} cores, shared with the simulator",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        **{name: importlib.metadata.version(name) for name in OUR_PACKAGES},
    }


# ---- several runs in one line


@dataclass(frozen=True)
class Line:
    """All runs of a contestant in a scenario, taken together.

    Attributes:
        scenario: Which.
        contestant: Who.
        runs: How many, with a result or without.
        rows: Rows asked for in each.
        lost: Of all rows of all runs with a result, those without an answer.
        seconds: Median, like all that follow; `None` where no run has a result.
        share: Least possible time divided by time taken.
        refused: 429s per row.
        cpu_ms: Processor time per row.
        peak_mb: Peak memory.
        trouble: Why a run has no result, if one has none.
        kind: `missing`, `broke` or `stopped`; empty if all have a result.
    """

    scenario: str
    contestant: str
    runs: int
    rows: int
    lost: float
    seconds: float | None
    share: float | None
    refused: float | None
    cpu_ms: float | None
    peak_mb: float | None
    trouble: str
    kind: str


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
        len(group),
        rows // len(done) if done else 0,
        sum(r["failed"] for r in done) / rows if rows else 0.0,
        _median(r["took"] for r in done),
        _median(r["share"] for r in done),
        _median(refused),
        _median(1000 * r["cpu"] / r["rows"] for r in done),
        _median(r["peak_mb"] for r in done),
        wrong[0]["words"] if wrong else "",
        wrong[0]["outcome"] if wrong else "",
    )


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def markdown(kept: dict[str, Any]) -> str:
    """A page: what was measured on what, then a table for each scenario."""
    about = kept["machine"]
    ours = ", ".join(f"{name} {about[name]}" for name in OUR_PACKAGES)
    found = lines(kept["results"])
    page = [
        "# Lab results",
        "",
        _machine_in_words(about),
        f"{ours}.",
        *(f"{name}: {', '.join(pinned)}." for name, pinned in kept["contestants"].items() if pinned),
        "",
        f"{LEGEND[0].upper()}{LEGEND[1:]}. Medians where there are several runs.",
    ]
    for name in dict.fromkeys(line.scenario for line in found):
        mine = [line for line in found if line.scenario == name]
        page += ["", f"## {name}: {ABOUT[name]}", "", _conditions(SCENARIOS[name]), ""]
        page += [
            "| contestant | runs | rows lost | seconds | share | 429s/row | CPU ms/row | MB | |",
            "|:--|--:|--:|--:|--:|--:|--:|--:|:--|",
        ]
        page += [_markdown_row(line) for line in mine]
    return "\n".join(page) + "\n"


def _machine_in_words(about: Mapping[str, str]) -> str:
    system = f"{about['system']}, {about['processor']}; load {about['load']}"
    return f"{about['date']}, Python {about['python']}, {system}."


def _markdown_row(line: Line) -> str:
    cells = [
        line.contestant,
        str(line.runs),
        "-" if line.seconds is None else f"{line.lost:.1%}" if line.lost else "0",
        _told(line.seconds, ".1f"),
        _told(line.share, ".3f"),
        "-" if line.refused is None else _few(line.refused),
        _told(line.cpu_ms, ".1f"),
        _told(line.peak_mb, ".0f"),
        line.trouble.replace("|", "/"),
    ]
    if line.contestant == OURS:
        cells = [f"**{cell}**" if cell else "" for cell in cells]
    return f"| {' | '.join(cells)} |"


def _conditions(scenario: Scenario) -> str:
    settings = scenario.world.settings
    enforced = ", ".join(_limits(_set_in(settings.rates)))
    told = ", ".join(_limits(scenario.told)) or "nothing"
    return f"The server enforces {enforced} a minute, with {settings.burst:g} s of burst; told: {told}."


def _set_in(rates: object) -> dict[str, float]:
    """The limits of a server that are set."""
    named = {name: getattr(rates, name, None) for name in ("rpm", "itpm", "otpm")}
    return {name: value for name, value in named.items() if value is not None}


def _limits(limits: Mapping[str, float]) -> list[str]:
    words = {"rpm": "requests", "itpm": "input tokens", "otpm": "output tokens", "burst": "s of burst"}
    return [f"{value:,.0f} {words.get(name, name)}" for name, value in limits.items()]


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _few(share: float) -> str:
    """A share or a multiple, with as many places as say something."""
    return "0" if share == 0 else f"{share:.4f}" if share < 0.01 else f"{share:.2f}"
