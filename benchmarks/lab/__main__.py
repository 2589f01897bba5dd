"""Run the lab and print its table."""

import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.lab.contestants.roster import ROSTER, Contestant, Missing
from benchmarks.lab.measure import Figures, Seen, Trouble, figures
from benchmarks.lab.report import cost_table, markdown, table
from benchmarks.lab.results import OURS, Run, as_json, versions_of
from benchmarks.lab.scenarios import SCENARIOS, Scenario, with_compared
from benchmarks.lab.server import World, far_simulator
from benchmarks.micro.cost import PARTS

ROOT = Path(__file__).parents[2]
WIDTH = 100
"""Columns, where there is no terminal to say how many."""
COST = "cost"
QUICK = 10
"""By how much there is less work in a quick run."""


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice([*SCENARIOS, COST]))
@click.option(
    "--contestant", "contestants", multiple=True, type=click.Choice(list(ROSTER)), help="Default: all."
)
@click.option("--runs", default=1, show_default=True, help="How often; each run has a seed of its own.")
@click.option("--seed", default=None, type=int, help="Of the first run. Default: from the clock.")
@click.option("--quick", is_flag=True, help="A tenth of the work: to see that it runs, not how well.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write all figures as JSON, and a page of Markdown beside it.",
)
def lab(
    scenarios: tuple[str, ...],
    contestants: tuple[str, ...],
    runs: int,
    seed: int | None,
    quick: bool,
    out: Path | None,
) -> None:
    """Run contestants through SCENARIOS (default: all), one after the other, and print a table."""
    seed = int(time.time()) % 100_000 if seed is None else seed
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(f"seed {seed}: repeat with --seed {seed}", style="dim", highlight=False)
    entered = [ROSTER[name] for name in contestants or ROSTER]
    versions = versions_of(contestant.name for contestant in entered)
    done: list[Run] = []
    costs: list[dict[str, Any]] = []
    for name in with_compared([name for name in scenarios or SCENARIOS if name != COST]):
        scenario = SCENARIOS[name]
        if quick:
            scenario = dataclasses.replace(scenario, rows=scenario.rows // QUICK)
        for turn in range(runs):
            for contestant in entered:
                outcome = run_one(scenario, contestant, seed + turn)
                run = Run(scenario, contestant, seed + turn, outcome, judged=not quick)
                done.append(compared(run, done))
                console.print(spoken(done[-1]), style="dim", highlight=False)
                if out:  # after every run: a lab that is interrupted has something to show
                    write(as_json(done, costs, versions), out)
    if ROSTER[OURS] in entered and COST in (scenarios or [COST]):
        for _ in range(runs):
            costs += what_it_costs(quick=quick)
    kept = as_json(done, costs, versions)
    if out:
        write(kept, out)
    if done:
        console.print(table(kept), highlight=False)
    if costs:
        console.print(cost_table(kept), highlight=False)
    missed = any(cost["target"] is not None and cost["value"] > cost["target"] for cost in costs)
    sys.exit(1 if any(run.complaints for run in done) or (missed and not quick) else 0)


def spoken(run: Run) -> str:
    """A line about a run, for whoever watches."""
    about = f"{run.scenario.name}, {run.contestant.name}, seed {run.seed}: "
    f = run.outcome
    if isinstance(f, Trouble):
        return about + f.words
    return about + f"{f.took:.1f} s, share {f.share:.3f}, {f.refusals} 429s, {f.failed} failed"


def write(kept: dict[str, Any], out: Path) -> None:
    """The figures as JSON, and as a page beside it."""
    out.write_text(json.dumps(kept, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(kept))


def what_it_costs(*, quick: bool) -> list[dict[str, Any]]:
    """The figures of `benchmarks.micro.cost`, each part in a process of its own."""
    found: list[dict[str, Any]] = []
    for part in PARTS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.micro.cost",
            "--here",
            part,
            *(["--quick"] if quick else []),
        ]
        measured = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found += json.loads(measured.stdout.splitlines()[-1])
    return found


def compared(run: Run, done: list[Run]) -> Run:
    """The same run; its time beside that of the same rows in the scenario it is to be compared with."""
    for other in done:
        same = (other.scenario.name, other.contestant, other.seed)
        if same != (run.scenario.against, run.contestant, run.seed):
            continue
        if isinstance(run.outcome, Figures) and isinstance(other.outcome, Figures):
            slower = run.outcome.took / other.outcome.took
            return dataclasses.replace(run, outcome=dataclasses.replace(run.outcome, slower=slower))
    return run


def run_one(scenario: Scenario, contestant: Contestant, seed: int) -> Figures | Trouble:
    """One contestant in one scenario, or why there is no result."""
    work = scenario.work(random.Random(seed), scenario.rows)
    if work.at and not contestant.timed:
        return Trouble("not offered", "not offered: it takes all its work at once")
    try:
        python = contestant.python()
    except Missing as error:
        return Trouble("missing", f"missing: {error}"[:160])
    settings = dataclasses.replace(scenario.world.settings, seed=seed)
    with far_simulator(World(settings, scenario.world.faults, scenario.world.schedule)) as simulator:
        task = {
            "base_url": simulator.base_url,
            "told": dict(scenario.told),
            "concurrency": scenario.concurrency,
            "prompts": work.prompts,
            "at": work.at,
            "priorities": work.priorities,
        }
        try:
            done = subprocess.run(
                [python, "-m", contestant.module],
                input=json.dumps(task),
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=contestant.variables_set(),
                timeout=scenario.patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return stopped(scenario, simulator.stats())
        try:
            ran = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            ran = None
        if done.returncode or not isinstance(ran, dict):
            said = done.stderr.strip().splitlines() or [f"exit {done.returncode}, no figures"]
            return Trouble("broke", f"broke: {said[-1]}"[:160])
        seen = Seen(simulator.stats(), simulator.verdict(), simulator.log(), ran)
        return figures(scenario, work, seen)


def stopped(scenario: Scenario, stats: Mapping[str, Any]) -> Trouble:
    """It has had more than enough time."""
    rows, by_status = scenario.rows, stats["by_status"]
    answered, refusals = int(by_status.get("200", 0)), int(by_status.get("429", 0))
    words = f"stopped at {scenario.patience:.0f} s with {answered} of {rows} rows"
    return Trouble("stopped", words, refused=refusals / rows, answered=min(1.0, answered / rows))


if __name__ == "__main__":
    lab()
