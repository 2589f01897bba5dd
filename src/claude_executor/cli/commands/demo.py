"""``claude-executor demo``: a bulk run against a simulator. No key, no network, half a minute."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_executor.cli.live.interruptible import import_sdk
from claude_executor.cli.terminal.exits import (
    BAD_INPUT,
    INTERRUPTED,
    OK,
    SOME_FAILED,
    TERMINATED,
    CommandError,
    reason,
)
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

# Chosen so that output tokens bind, the other two limits are close, and the demo takes half a minute.
# A small burst: with that of a whole minute, the demo would end before any limit bound.
SETTINGS: dict[str, Any] = {
    "rates": {"rpm": 2_000, "itpm": 500_000, "otpm": 180_000},
    "burst": 2.0,
    "latency": {"first_token": 0.3, "tokens_per_second": 150.0, "spread": 0.25},
    "output_tokens": {"mean": 120.0, "sigma": 0.5},
    "seed": 7,
}
OUTAGE_AFTER = 0.3
"""Fraction of the rows after which the API fails for a while."""
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
    help="Also save the panel as an SVG image, taken shortly before the end.",
)
def demo(rows: int, svg: Path | None) -> None:
    """Run a few hundred real prompts through a simulated API.

    The prompts are docstrings of Python's standard library, sent with the real SDK over HTTP to a simulator
    in another process. Its limits are learned from its responses, and for a few seconds it is down.
    """
    from claude_executor.cli.service.simulator_process import SimulatorProcess

    if svg is not None and not svg.parent.is_dir():
        raise CommandError(f"can't write {svg}: no such directory", BAD_INPUT)
    try:
        import_sdk()
        with SimulatorProcess(**SETTINGS) as api:
            code = asyncio.run(_perform(api, rows, svg))
    except OSError as error:
        raise CommandError(f"the demo failed: {_of_file(error)}{reason(error)}", SOME_FAILED) from error
    click.get_current_context().exit(code)


async def _perform(api: SimulatorProcess, rows: int, svg: Path | None) -> int:
    from rich.console import Console

    from claude_executor import Limits
    from claude_executor.bulk import Run, run_rows, summarize
    from claude_executor.cli.job.summary import closing
    from claude_executor.cli.live.interruptible import run_interruptible
    from claude_executor.cli.live.panel_recorder import PanelRecorder
    from claude_executor.cli.options.connection import ConnectionOptions

    console = Console(stderr=True, highlight=False)
    console.print(
        f"{count(rows, 'docstring')} of Python's standard library, to be summarized by a simulated Claude.\n"
        "No limits are set: the executor learns them. The API will be down for a moment.",
        markup=False,
    )
    run = Run(rows, models=frozenset({MODEL}))
    outage = _PlannedOutage(api, run)
    connection = ConnectionOptions(Limits(), base_url=api.base_url, api_key="sk-ant-demo")
    async with connection.executor(run.listen) as executor:
        recorder = PanelRecorder(
            run,
            executor,
            title="claude-executor demo",
            max_concurrency=connection.max_concurrency,
            between=(PICTURE_FROM, PICTURE_UNTIL),
        )
        ending = await run_interruptible(
            run_rows(_rows(rows), outage.on_line, executor=executor, run=run), recorder, console
        )
        snapshot = executor.snapshot()
    console.print()
    console.print(closing(summarize(run, snapshot)))
    if svg is not None:
        recorder.save(svg, width=PICTURE_WIDTH)
    return _judge(api, run, ending, console)


class _PlannedOutage:
    """Lets the API fail for a moment in the middle of the run."""

    def __init__(self, api: SimulatorProcess, run: Run) -> None:
        self._api = api
        self._run = run
        self._has_begun = False

    def on_line(self, line: bytes) -> None:
        """Begin the outage when enough rows are done. The line is not kept."""
        del line
        if not self._has_begun and self._run.counters.done >= OUTAGE_AFTER * self._run.rows:
            self._has_begun = True
            self._api.fail(outage=OUTAGE)


def _of_file(error: OSError) -> str:
    return f"{error.filename}: " if error.filename is not None else ""


def _rows(count_: int) -> Iterator[Row]:
    from claude_executor.bulk import Row
    from claude_executor.cli.commands.demo_prompts import summaries

    for number, params in enumerate(summaries(count_, model=MODEL, max_tokens=MAX_TOKENS), start=1):
        yield Row(f"docstring-{number}", params)


def _judge(api: SimulatorProcess, run: Run, ending: Interruption, console: Console) -> int:
    """Print the verdict of the simulator, and return the exit code."""
    # Before its end, a row that waits for its next attempt looks as if it had been given up.
    unfair = {"given_up"} if ending.number is not None else set[str]()
    findings = {name: found for name, found in api.verdict()["findings"].items() if name not in unfair}
    console.print()
    if not findings:
        console.print(
            "[bold green]The simulator's verdict: clean.[/] No answered request was sent twice, "
            "and none before its limits allowed it."
        )
    else:
        counts = ", ".join(f"{name.replace('_', ' ')} {found}" for name, found in findings.items())
        console.print(f"[bold red]The simulator's verdict: not clean.[/] {counts}")
    if ending.number is not None:
        return TERMINATED if ending.number == signal.SIGTERM else INTERRUPTED
    return OK if not findings and run.counters.succeeded == run.rows else SOME_FAILED
