"""Run a recipe against a simulator, with a limit shared through a Redis, and say how well it was used.

Needs `redis-server` on the path, and ``pip install 'claude-executor[engines]'``. From the repository's root::

    python -m benchmarks.micro.engines ray_actors ray_data dask_workers --rows 2000
"""

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import click
from examples.engines.batch import some_rows
from examples.engines.local import RECIPES

from benchmarks.lab.server import World, far_simulator
from benchmarks.support.redis_servers import RedisServer
from claude_executor.simulator import Settings
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.settings import Latency, Lengths

BURST = 3.0
MARK = "CLAUDE_EXECUTOR_RECIPE"


def measure(recipe: str, rows: int, workers: int, rpm: int, wrong_every: int) -> dict[str, Any]:
    """Run it in this process; what came of it."""
    settings = Settings(
        rates=Rates(rpm, 50_000_000, 10_000_000),
        burst=BURST,
        latency=Latency(0.4, 100.0, 0.2),
        output_tokens=Lengths(20.0),
    )
    redis = RedisServer()
    redis.start()
    try:
        with far_simulator(World(settings)) as simulator:
            os.environ.update(ANTHROPIC_BASE_URL=simulator.base_url, ANTHROPIC_API_KEY="any")
            outcomes = list(RECIPES[recipe](some_rows(rows, wrong_every), workers, redis.url))
            log = simulator.log()
            clean = simulator.verdict()["clean"]
    finally:
        redis.kill()
    status = Counter(entry.status for entry in log)
    took = max(entry.at for entry in log) - min(entry.at for entry in log)
    least = max(0.0, status[200] * 60.0 / rpm - BURST)
    return {
        "recipe": recipe,
        "rows": rows,
        "outcomes": len(outcomes),
        "lost": len({row["id"] for row in some_rows(rows, wrong_every)} - {row["id"] for row in outcomes}),
        "failed": sum(outcome["error"] is not None for outcome in outcomes),
        "share": round(least / took, 3),
        "refused": round(status[429] / len(log), 4),
        "seconds": round(took, 1),
        "clean": clean,
    }


def _left(mark: str, patience: float = 15.0) -> list[str]:
    """What still runs, after a while, of all that was started with `mark` in its environment."""
    until = time.monotonic() + patience
    while (left := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def _marked(mark: str) -> list[str]:
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                left.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
        except OSError:
            continue
    return left


@click.command()
@click.argument("recipes", nargs=-1, type=click.Choice(list(RECIPES)))
@click.option("--rows", default=2_000, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--rpm", default=3_600, show_default=True, help="The limit they share.")
@click.option("--wrong-every", default=50, show_default=True, help="Of so many rows the API refuses one.")
@click.option("--here", is_flag=True, hidden=True, help="In this process.")
def main(recipes: tuple[str, ...], here: bool, **options: int) -> None:
    """One line of figures for each recipe."""
    for recipe in recipes or tuple(RECIPES):
        if here:
            print(json.dumps(measure(recipe, **options)), flush=True)
            continue
        told = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        mark = uuid.uuid4().hex
        command = [sys.executable, "-m", "benchmarks.micro.engines", recipe, "--here", *told]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, MARK: mark})
        print(json.dumps({**json.loads(child.stdout.splitlines()[-1]), "left": _left(mark)}), flush=True)


if __name__ == "__main__":
    main()
