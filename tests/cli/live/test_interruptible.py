"""Conducting a run: signals, and what is shown meanwhile. The signals are real, the simulator is ours."""

import asyncio
import io
import os
import signal

import pytest
from rich.console import Console

from claude_executor import Executor
from claude_executor.bulk import Row, Run, run_rows
from claude_executor.cli.live import display
from claude_executor.cli.live.interruptible import Interruption, run_interruptible
from claude_executor.cli.live.progress import ProgressTracker
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings
from claude_executor.testing import simulated_client

MODEL = "claude-haiku-5-5"
SETTINGS = Settings(rates=Rates(rpm=6_000), latency=Latency(0.05), output_tokens=Lengths(20))


def rows(count: int) -> list[Row]:
    """Rows that differ."""
    return [
        Row(
            f"r{number}",
            {
                "model": MODEL,
                "max_tokens": 50,
                "messages": [{"role": "user", "content": f"Question {number}"}],
            },
        )
        for number in range(count)
    ]


async def conducted(simulator, count, meanwhile, *, terminal=False):
    """Conduct a run while something happens; how it ended, and what was shown."""
    run = Run(count, models=frozenset({MODEL}))
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    async with Executor(client=simulated_client(simulator), on_event=run.listen) as executor:
        work = run_rows(rows(count), lambda line: None, executor=executor, run=run)
        watch = ProgressTracker(run, executor, title="rows.jsonl", max_concurrency=200)
        conducting = asyncio.create_task(run_interruptible(work, watch, console))
        await meanwhile(conducting)
        await asyncio.wait([conducting], timeout=5)
        assert conducting.done()
        ending = conducting.result()
    return run, ending, console.file.getvalue()


@pytest.mark.simulator(SETTINGS, faults=Faults(slow_first_byte=1.0, slow_first_byte_seconds=60.0))
async def test_second_signal_aborts(simulator):
    """SIGTERM waits for slow answers, a Ctrl-C after it does not."""

    async def impatience(conducting):
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert not conducting.done()
        os.kill(os.getpid(), signal.SIGINT)

    run, ending, _ = await conducted(simulator, 100, impatience)
    assert ending == Interruption(signal.SIGTERM, aborted=True)
    assert run.counters.succeeded == 0


@pytest.mark.simulator(SETTINGS)
async def test_signals_are_ours_only_for_the_run(simulator):
    """Afterwards, Ctrl-C means what it meant before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    async def nothing(conducting):
        await conducting

    _, ending, _ = await conducted(simulator, 3, nothing)
    assert ending == Interruption()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.simulator(SETTINGS)
async def test_lines_come_at_intervals(simulator, monkeypatch):
    """Off a terminal there is a plain line now and then."""
    monkeypatch.setattr(display, "LINE_EVERY", 0.2)
    monkeypatch.setattr(display, "LOOKS_A_LINE", 4)

    async def nothing(conducting):
        await conducting

    _, _, shown = await conducted(simulator, 200, nothing)
    lines = shown.splitlines()
    assert lines
    assert all("/200 rows" in line for line in lines)
    assert "\x1b" not in shown


@pytest.mark.simulator(SETTINGS)
async def test_panel_is_drawn_on_a_terminal(simulator):
    """On a terminal there is the panel, and it is cleared away at the end."""

    async def nothing(conducting):
        await conducting

    _, _, shown = await conducted(simulator, 100, nothing, terminal=True)
    assert "rows.jsonl" in shown
    assert "╭" in shown
    assert shown.rstrip("\n").endswith(("\x1b[2K", "\x1b[?25h", "\r"))


@pytest.mark.simulator(SETTINGS, faults=Faults(outage=float("inf")))
async def test_outage_is_told_in_words(simulator):
    """While the API is down the view says so, and when it will be tried again."""
    run = Run(100, models=frozenset({MODEL}))
    async with Executor(client=simulated_client(simulator), on_event=run.listen) as executor:
        work = asyncio.create_task(run_rows(rows(100), lambda line: None, executor=executor, run=run))
        watch = ProgressTracker(run, executor, title="x", max_concurrency=200)
        waiting = "API overloaded: waiting, next probe in "
        async with asyncio.timeout(20):
            # Looking again and again is what is tested.
            while not (view := watch.look()).state.startswith(waiting):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert view.waits
        run.stop()
        await work


@pytest.mark.simulator(SETTINGS)
async def test_a_third_signal_does_not_keep_what_is_aborted_from_being_written(simulator):
    """What is done at the end is cancelled once."""
    written = False

    async def work():
        nonlocal written
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
            written = True

    async with Executor(client=simulated_client(simulator)) as executor:
        watch = ProgressTracker(Run(1), executor, title="x", max_concurrency=1)
        conducting = asyncio.create_task(run_interruptible(work(), watch, Console(file=io.StringIO())))
        for _ in range(4):
            await asyncio.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        assert (await conducting).aborted
    assert written
