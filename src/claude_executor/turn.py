"""One attempt while it is being made, and what else is asked for as part of it.

Code that is called under an executor may use that executor again: what it asks for then is sent in the place
that the call holds, for to wait for another could be to wait for itself. Such a part is neither estimated nor
tried again by itself. What it takes is counted as the call's; and if the call fails with it, the call is made
again, all of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import TypeVar, cast

from claude_executor.core.cost import Usage
from claude_executor.core.job import Job
from claude_executor.core.retry import TREATMENT
from claude_executor.core.verdict import Verdict
from claude_executor.errors import Closed, ExecutorError, StreamInterrupted, failure, interruption
from claude_executor.outcome import Broken, Reply

R = TypeVar("R")


class Turn:
    """One attempt of a job.

    Attributes:
        owner: Who carries the job.
        over: Whether it has ended.
    """

    __slots__ = ("_broken", "_job", "_place", "_used", "over", "owner")

    def __init__(self, owner: object, job: Job) -> None:
        self.owner = owner
        self.over = False
        self._job = job
        self._place: asyncio.Lock | None = None  # few have parts
        self._broken: tuple[tuple[ExecutorError, Broken], ...] = ()
        self._used: Usage | None = None

    # ---- for its parts

    @property
    def attempts(self) -> int:
        """Which attempt it is."""
        return self._job.attempts

    async def send(self, attempt: Callable[[], Awaitable[R | Broken]]) -> R:
        """Make an attempt as part of this one; one at a time, for it is one place.

        Raises:
            Closed: This one has ended before it came to that.
        """
        self._place = place = self._place or asyncio.Lock()
        async with place:
            if self.over:
                raise Closed("the call that this was part of has ended; nothing was sent")
            outcome = await attempt()
        if isinstance(outcome, Broken):
            self._job.sent = self._job.sent or outcome.failure.sent
            error = failure(self._job, outcome.failure, Verdict.FAILED)
            self._broke(error, outcome)
            raise error from outcome.cause
        self._took(_usage_in(outcome))
        return outcome

    def complete(self, usage: Usage | None) -> None:
        """A part that comes as a stream is complete."""
        self._took(usage)

    def broken(self, broken: Broken) -> StreamInterrupted:
        """A part that comes as a stream was broken off; what its reader is told."""
        error = interruption(self._job, broken.failure)
        self._broke(error, broken)
        return error

    def left(self, usage: Usage) -> None:
        """The reader of a part wants no more of it."""
        self._took(usage)

    def _broke(self, error: ExecutorError, broken: Broken) -> None:
        self._broken += ((error, broken),)
        self._took(broken.failure.usage)

    def _took(self, usage: Usage | None) -> None:
        if usage is not None:
            self._used = usage if self._used is None else self._used.plus(usage)

    # ---- for its owner

    async def end(self) -> None:
        """Begin no more parts, and wait for the one that somebody has left under way: it holds the place."""
        self.over = True
        if self._place is not None:
            async with self._place:
                pass

    @property
    def divided(self) -> bool:
        """Whether parts of it have been sent by the executor."""
        return self._place is not None

    def ended_by(self, error: BaseException) -> Broken | None:
        """The part that has failed with this exception, if one has."""
        return next((broken for told, broken in self._broken if told is error), None)

    def counted(self, outcome: R | Broken) -> R | Broken:
        """What came of it: where its parts are known, it took what they took, also if it has failed."""
        used = self._used
        if used is None:
            return outcome
        if isinstance(outcome, Reply):
            return cast("R", outcome._replace(usage=used))
        if isinstance(outcome, Broken):
            free = TREATMENT[outcome.failure.kind].refund or outcome.failure.usage is not None
            return Broken(replace(outcome.failure, usage=used if free else self.at_least), outcome.cause)
        return outcome

    @property
    def at_least(self) -> Usage | None:
        """What it took if its end is not known: what its parts took, or `None`, if more was expected."""
        used, expected = self._used, self._job.cost
        if used is None:
            return None
        inputs = used.input_tokens + used.cache_creation_tokens
        more = inputs > expected.input_tokens or used.output_tokens > expected.output_tokens
        return used if more else None


def _usage_in(outcome: object) -> Usage | None:
    return outcome.usage if isinstance(outcome, Reply) else None


CURRENT: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""The attempt that the code which is running now is part of."""
