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
from benchmarks.lab.measure import Figures, Trouble, figures
from benchmarks.lab.report import Run, as_json, markdown, table
from benchmarks.lab.scenarios import SCENARIOS, Scenario
from benchmarks.lab.server import World, far_simulator

ROOT = Path(__file__).parents[2]
WIDTH = 100
"""Columns, where there is no terminal to say how many."""


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "--contestant", "contestants", multiple=True, type=click.Choice(list(ROSTER)), help="Default: all."
)
@click.option("--runs", default=1, show_default=True, help="How often; each run has a seed of its own.")
@click.option("--seed", default=None, type=int, help="Of the first run. Default: from the clock.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write all figures as JSON, and a page of Markdown beside it.",
)
def lab(
    scenarios: tuple[str, ...], contestants: tuple[str, ...], runs: int, seed: int | None, out: Path | None
) -> None:
    """Run contestants through SCENARIOS (default: all), one after the other, and print a table."""
    seed = int(time.time()) % 100_000 if seed is None else seed
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    done: list[Run] = []
    for name in scenarios or SCENARIOS:
        for turn in range(runs):
            for contestant in [ROSTER[c] for c in contestants or ROSTER]:
                outcome = run_one(SCENARIOS[name], contestant, seed + turn)
                done.append(Run(SCENARIOS[name], contestant, seed + turn, outcome))
                console.print(spoken(done[-1]), style="dim", highlight=False)
                if out:  # after every run: a lab that is interrupted has something to show
                    write(done, out)
    console.print(table(done), highlight=False)
    sys.exit(1 if any(run.complaints for run in done) else 0)


def spoken(run: Run) -> str:
    """A line about a run, for whoever watches."""
    about = f"{run.scenario.name}, {run.contestant.name}, seed {run.seed}: "
    f = run.outcome
    if isinstance(f, Trouble):
        return about + f.words
    return about + f"{f.took:.1f} s, share {f.share:.3f}, {f.refusals} 429s, {f.failed} failed"


def write(done: list[Run], out: Path) -> None:
    """The figures as JSON, and as a page beside it."""
    kept = as_json(done)
    out.write_text(json.dumps(kept, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(kept))


def run_one(scenario: Scenario, contestant: Contestant, seed: int) -> Figures | Trouble:
    """One contestant in one scenario, or why there is no result."""
    try:
        python = contestant.python()
    except Missing as error:
        return Trouble("missing", f"missing: {error}"[:160])
    settings = dataclasses.replace(scenario.world.settings, seed=seed)
    prompts = scenario.prompts(random.Random(seed))
    with far_simulator(World(settings, scenario.world.faults, scenario.world.schedule)) as simulator:
        task = {
            "base_url": simulator.base_url,
            "told": dict(scenario.told),
            "concurrency": scenario.concurrency,
            "prompts": prompts,
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
            return stopped(scenario, simulator.stats(), len(prompts))
        try:
            ran = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            ran = None
        if done.returncode or not isinstance(ran, dict):
            said = done.stderr.strip().splitlines() or [f"exit {done.returncode}, no figures"]
            return Trouble("broke", f"broke: {said[-1]}"[:160])
        return figures(scenario, simulator.stats(), simulator.verdict(), ran)


def stopped(scenario: Scenario, stats: Mapping[str, Any], rows: int) -> Trouble:
    """It has had more than enough time."""
    by_status = stats["by_status"]
    answered, refusals = int(by_status.get("200", 0)), int(by_status.get("429", 0))
    words = f"stopped at {scenario.patience:.0f} s with {answered} of {rows} rows"
    return Trouble("stopped", words, refused=refusals / rows, answered=min(1.0, answered / rows))


if __name__ == "__main__":
    lab()
