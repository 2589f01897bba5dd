"""How a contestant is run: a task comes in as JSON on standard input, figures go out on standard output.

It imports nothing but the standard library, because contestants live in virtual environments of their own.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

Prompt = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What a contestant has to do.

    Attributes:
        base_url: Where the API is.
        told: Limits it is told: `rpm`, `itpm`, `otpm` per minute, `burst` in seconds; any may be missing.
        concurrency: Requests in flight it may have.
        prompts: Parameters for `messages.create`.
    """

    base_url: str
    told: dict[str, float]
    concurrency: int
    prompts: list[Prompt]


def enter(run: Callable[[Task], Coroutine[Any, Any, list[str | None]]]) -> None:
    """Read the task, run it, print what it took."""
    task = Task(**json.load(sys.stdin))
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    outcomes = asyncio.run(run(task))
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    errors = [outcome for outcome in outcomes if outcome is not None]
    figures = {
        "rows": len(outcomes),
        "failed": len(errors),
        "took": took,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mb": after.ru_maxrss / 1024,
        "errors": errors[:3],
    }
    print(json.dumps(figures))
