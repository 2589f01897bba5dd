"""``claude-executor demo``: the whole of it against a simulator. No key, no network, half a minute."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_executor.cli.live.interruptible import import_sdk
from claude_executor.cli.terminal.exits import INTERRUPTED, OK, SOME_FAILED, TERMINATED, CommandError, reason
from claude_executor.cli.terminal.format import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from claude_executor.bulk import Row, Run
    from claude_executor.cli.live.interruptible import Interruption
    from claude_executor.cli.service.simulator_process import SimulatorProcess

MODEL = "claude-haiku-5-5"
ROWS = 600
MAX_TOKENS = 256

# Chosen so that output tokens bind, the other two limits are not far, and all of it takes half a minute.
# A small burst: with a whole minute's worth the demo would be over before any limit bound.
SETTINGS: dict[str, Any] = {
    "rates": {"rpm": 2_000, "itpm": 500_000, "otpm": 180_000},
    "burst": 2.0,
    "latency": {"first_token": 0.3, "tokens_per_second": 150.0, "spread": 0.25},
    "output_tokens": {"mean": 120.0, "sigma": 0.5},
    "seed": 7,
}
OUTAGE_AFTER = 0.3
"""Share of the rows after which the API is down for a while."""
OUTAGE = 3.0

PICTURE_FROM, PICTURE_UNTIL = 0.6, 0.9
PICTURE_WIDTH = 92


@click.command()
@click.option(
    "--rows", type=click.IntRange(1, 100_000), default=ROWS, show_default=True, help="How many prompts."
)
@click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also save a picture of the panel, taken shortly before the end.",
)
def demo(rows: int, svg: Path | None) -> None:
    """Push a few hundred real prompts through a simulated API and watch.

    The prompts are docstrings of Python's standard library, sent with the real SDK over real HTTP to a
    simulator in another process. Its limits are learned from its answers, and for some seconds it is down.
    """
    from claude_executor.cli.service.simulator_process import SimulatorProcess

    try:
        import_sdk()
        with SimulatorProcess(**SETTINGS) as api:
            code = asyncio.run(_perform(api, rows, svg))
    except OSError as error:
        raise CommandError(f"the demo could not go on: {reason(error)}", SOME_FAILED) from error
    click.get_current_context().exit(code)


async def _perform(api: SimulatorProcess, rows: int, svg: Path | None) -> int:
    from rich.console import Console

    from claude_executor import Limits
    from claude_executor.bulk import Run, run_rows, summarise
    from claude_executor.cli.job.summary import closing
    from claude_executor.cli.live.interruptible import run_interruptible
    from claude_executor.cli.live.panel_recorder import PanelRecorder
    from claude_executor.cli.options.connection import ConnectionOptions

    console = Console(stderr=True, highlight=False)
    console.print(
        f"{count(rows, 'docstring')} of Python's standard library, to be summarised by a simulated Claude.\n"
        "The executor is told no limits: it learns them. On the way the API will be down for a moment.",
        markup=False,
    )
    run = Run(rows, models=frozenset({MODEL}))
    story = _Story(api, run)
    connection = ConnectionOptions(Limits(), base_url=api.base_url, api_key="sk-ant-demo")
    async with connection.executor(run.listen) as executor:
        album = PanelRecorder(
            run,
            executor,
            title="claude-executor demo",
            max_concurrency=connection.max_concurrency,
            between=(PICTURE_FROM, PICTURE_UNTIL),
        )
        ending = await run_interruptible(
            run_rows(_rows(rows), story.go_on, executor=executor, run=run), album, console
        )
        snapshot = executor.snapshot()
    console.print()
    console.print(closing(summarise(run, snapshot)))
    if svg is not None:
        album.save(svg, width=PICTURE_WIDTH)
    return _judge(api, run, ending, console)


class _Story:
    """Sees to it that something happens: an outage in the middle."""

    def __init__(self, api: SimulatorProcess, run: Run) -> None:
        self._api = api
        self._run = run
        self._told = False

    def go_on(self, line: bytes) -> None:
        """A result came; it is not kept."""
        del line
        if not self._told and self._run.counters.done >= OUTAGE_AFTER * self._run.rows:
            self._told = True
            self._api.fail(outage=OUTAGE)


def _rows(count_: int) -> Iterator[Row]:
    from claude_executor.bulk import Row
    from claude_executor.cli.commands.demo_prompts import summaries

    for number, params in enumerate(summaries(count_, model=MODEL, max_tokens=MAX_TOKENS), start=1):
        yield Row(f"docstring-{number}", params)


def _judge(api: SimulatorProcess, run: Run, ending: Interruption, console: Console) -> int:
    """Print the simulator's verdict on us; the exit code."""
    # Judged before its end a row that waits for its next attempt looks as if it had been given up.
    unfair = {"given_up"} if ending.number is not None else set[str]()
    findings = {name: found for name, found in api.verdict()["findings"].items() if name not in unfair}
    console.print()
    if not findings:
        console.print(
            "[bold green]The simulator's verdict: clean.[/] Nothing was asked twice that had been answered, "
            "nothing sent before it was allowed to be."
        )
    else:
        counts = ", ".join(f"{name.replace('_', ' ')} {found}" for name, found in findings.items())
        console.print(f"[bold red]The simulator's verdict: not clean.[/] {counts}")
    if ending.number is not None:
        return TERMINATED if ending.number == signal.SIGTERM else INTERRUPTED
    return OK if not findings and run.counters.succeeded == run.rows else SOME_FAILED
