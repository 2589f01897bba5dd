"""Run the lab and print its table."""

import dataclasses
import json
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.lab.contestants.roster import ROSTER, Contestant, Missing
from benchmarks.lab.measure import Figures, complaints, figures
from benchmarks.lab.scenarios import SCENARIOS, Scenario
from benchmarks.lab.server import World, far_simulator

ROOT = Path(__file__).parents[2]
PATIENCE = 4.0
"""How many times the least possible time a contestant gets before it is stopped."""


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "--contestant", "contestants", multiple=True, type=click.Choice(list(ROSTER)), help="Default: all."
)
@click.option("--runs", default=1, show_default=True, help="How often; each run has a seed of its own.")
@click.option("--seed", default=None, type=int, help="Of the first run. Default: from the clock.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all figures as JSON.")
def lab(
    scenarios: tuple[str, ...], contestants: tuple[str, ...], runs: int, seed: int | None, out: Path | None
) -> None:
    """Run contestants through SCENARIOS (default: all), one after the other, and print a table."""
    seed = int(time.time()) % 100_000 if seed is None else seed
    console = Console()
    table = Table(
        "scenario",
        "contestant",
        "seed",
        "failed",
        "seconds",
        "share",
        "429s",
        "most sent",
        "CPU ms/row",
        "MB",
        "",
    )
    records = []
    for name in scenarios or SCENARIOS:
        for run in range(runs):
            for contestant in [ROSTER[c] for c in contestants or ROSTER]:
                outcome = run_one(SCENARIOS[name], contestant, seed + run)
                records.append(
                    {"scenario": name, "contestant": contestant.name, "seed": seed + run} | record(outcome)
                )
                table.add_row(*row(SCENARIOS[name], contestant, seed + run, outcome))
                console.print(" ".join(row(SCENARIOS[name], contestant, seed + run, outcome)), style="dim")
    console.print(table)
    if out:
        out.write_text(json.dumps({"machine": machine(), "results": records}, indent=1) + "\n")
    ours = [r for r in records if r["contestant"] == "ours"]
    sys.exit(1 if any(r.get("complaints") for r in ours) else 0)


def run_one(scenario: Scenario, contestant: Contestant, seed: int) -> Figures | str:
    """One contestant in one scenario, or why there is no result."""
    try:
        python = contestant.python()
    except Missing as error:
        return f"missing: {error}"[:160]
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
            answered = simulator.stats()["by_status"].get("200", 0)
            return f"stopped after {scenario.patience:.0f} s: {answered} of {len(prompts)} answered"
        if done.returncode:
            return f"broke: {done.stderr.strip().splitlines()[-1][:120] if done.stderr.strip() else done.returncode}"
        ran = json.loads(done.stdout.strip().splitlines()[-1])
        return figures(scenario, simulator.stats(), simulator.verdict(), ran)


def row(scenario: Scenario, contestant: Contestant, seed: int, outcome: Figures | str) -> list[str]:
    """A line of the table."""
    if isinstance(outcome, str):
        return [scenario.name, contestant.name, str(seed), *[""] * 7, outcome]
    f = outcome
    found = complaints(scenario, f) if contestant.name == "ours" else []
    return [
        scenario.name, contestant.name, str(seed), str(f.failed), f"{f.took:.1f}", f"{f.share:.3f}",
        f"{f.refusals} ({f.refused:.1%})", str(f.attempts), f"{1000 * f.cpu / f.rows:.2f}", f"{f.peak_mb:.0f}",
        "; ".join(found) if found else ("ok" if contestant.name == "ours" else ""),
    ]  # fmt: skip


def record(outcome: Figures | str) -> dict[str, object]:
    """What is kept of a result."""
    if isinstance(outcome, str):
        return {"outcome": outcome}
    return dataclasses.asdict(outcome) | {"share": outcome.share}


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    import importlib.metadata as metadata

    names = ("claude-executor", "anthropic", "aiohttp", "httpx2", "uvicorn")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "processor": f"{platform.machine()}, {__import__('os').cpu_count()} cores, shared with the simulator",
        **{name: metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    lab()
