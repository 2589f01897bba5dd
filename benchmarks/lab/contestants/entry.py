"""How a contestant is run: a task comes in as JSON on standard input, figures go out on standard output.

It imports nothing but the standard library, because contestants live in virtual environments of their own.
The clock starts when the contestant's own modules have been imported; whatever it sets up afterwards
(clients, files, questions it asks the server first) is its own time.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

Prompt = dict[str, Any]
Outcomes = list[str | None]
"""For every prompt, in order: `None` if it was answered, or what went wrong."""


@dataclass(frozen=True)
class Task:
    """What a contestant has to do.

    Attributes:
        base_url: Where the API is.
        told: Limits it is told: `rpm`, `itpm`, `otpm` per minute, `burst` in seconds; any may be missing.
        concurrency: Requests in flight it may have.
        prompts: Parameters for `messages.create`.
        at: When each of them comes, in seconds after the start; empty: all at the start.
        priorities: Of each of them; empty: they have none.
        submitted: When each was handed over, on `time.monotonic`, by its number; filled by `each`.
    """

    base_url: str
    told: dict[str, float]
    concurrency: int
    prompts: list[Prompt]
    at: list[float]
    priorities: list[int]
    submitted: dict[int, float] = field(default_factory=dict[int, float])

    @property
    def model(self) -> str:
        """The model of all prompts: several contestants are told it once and for all."""
        return str(self._only("model"))

    @property
    def max_tokens(self) -> int:
        """Likewise their `max_tokens`."""
        return int(self._only("max_tokens"))

    @property
    def texts(self) -> list[str]:
        """The words of each prompt."""
        return [prompt["messages"][0]["content"] for prompt in self.prompts]

    @property
    def tokens_told(self) -> float | None:
        """Input and output a minute in one sum, for contestants with a single bucket; `None` if not told."""
        told = [self.told[name] for name in ("itpm", "otpm") if name in self.told]
        return sum(told) if told else None

    def _only(self, name: str) -> object:
        values = {prompt[name] for prompt in self.prompts}
        if len(values) != 1:
            raise ValueError(f"all prompts of a task have the same {name}, but these have {sorted(values)}")
        return values.pop()


async def each(task: Task, one: Callable[[Prompt, int], Awaitable[str | None]]) -> Outcomes:
    """Hand every prompt over when it comes, with its priority, and wait for all.

    What has a priority comes beside what has none: once that is done, nothing more of it comes.
    """
    priorities = task.priorities or [0] * len(task.prompts)
    if not task.at:
        return await asyncio.gather(*map(one, task.prompts, priorities))
    began = time.monotonic()

    async def row(number: int) -> str | None:
        await asyncio.sleep(began + task.at[number] - time.monotonic())
        task.submitted[number] = time.monotonic()
        return await one(task.prompts[number], priorities[number])

    rows = [asyncio.ensure_future(row(number)) for number in range(len(task.prompts))]
    await asyncio.gather(*(done for done, priority in zip(rows, priorities, strict=True) if not priority))
    for number, waiting in enumerate(rows):
        if number not in task.submitted:
            waiting.cancel()
    return await asyncio.gather(*(rows[number] for number in task.submitted))


def enter(run: Callable[[Task], Coroutine[Any, Any, Outcomes]]) -> None:
    """Read the task, run it, print what it took."""
    enter_blocking(lambda task: asyncio.run(run(task)))


def enter_blocking(run: Callable[[Task], Outcomes]) -> None:
    """As `enter`, for a library that blocks until all is done, or minds an event loop of its own."""
    task = Task(**json.load(sys.stdin))
    out, sys.stdout = sys.stdout, sys.stderr  # progress bars and the like do not get among the figures
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    outcomes = run(task)
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    errors = [outcome for outcome in outcomes if outcome is not None]
    figures = {
        "rows": len(outcomes),
        "failed": len(errors),
        "began": began,
        "took": took,
        "submitted": task.submitted,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mb": after.ru_maxrss / 1024,
        "errors": errors[:3],
    }
    print(json.dumps(figures), file=out, flush=True)
