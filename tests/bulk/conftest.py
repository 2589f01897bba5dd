"""Runs of these tests go through executor, SDK and simulator in virtual time: nothing really waits."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.virtual_loop import pytest_asyncio_loop_factories

from claude_executor import Executor
from claude_executor.bulk import Row, Run
from claude_executor.simulator import Simulator
from claude_executor.testing import loop_time, simulated_client

__all__ = ["pytest_asyncio_loop_factories"]

MODEL = "claude-haiku-5-5"


@pytest.fixture
def begin() -> Callable[..., tuple[Run, Executor]]:
    """Make a run, and an executor that tells it its events and is connected to a simulator."""

    def make(simulator: Simulator, rows: int, *, models=(MODEL,), **options: Any) -> tuple[Run, Executor]:
        run = Run(rows, models=frozenset(models), clock=loop_time)
        client = simulated_client(simulator)
        return run, Executor(client=client, on_event=run.listen, clock=loop_time, **options)

    return make


@pytest.fixture
def some_rows() -> Callable[..., list[Row]]:
    """Make rows that differ."""

    def make(count: int, model: str = MODEL, **more: Any) -> list[Row]:
        return [
            Row(
                f"row-{number}",
                {
                    "model": model,
                    "max_tokens": 50,
                    "messages": [{"role": "user", "content": f"Question {number}?"}],
                    **more,
                },
                {"place": number},
            )
            for number in range(count)
        ]

    return make


@pytest.fixture
def rows_in(tmp_path: Path) -> Callable[..., Path]:
    """Write rows to a file."""

    def write(rows: Iterable[Row], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        lines = [{"custom_id": row.custom_id, "params": row.params, **row.extras} for row in rows]
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        return path

    return write
