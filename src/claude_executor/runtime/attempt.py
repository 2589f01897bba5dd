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
from functools import reduce
from typing import TYPE_CHECKING, TypeVar, cast

from claude_executor.core.model.actions import Disposition
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import FAILURE_POLICIES
from claude_executor.core.model.job import Job
from claude_executor.errors import Closed, ExecutorError, StreamInterrupted
from claude_executor.runtime.raising import failure, interruption
from claude_executor.sdk.outcome import FailedAttempt, Reply

if TYPE_CHECKING:
    from claude_executor.core.model.headers import ResponseHints

R = TypeVar("R")


class AttemptContext:
    """One attempt of a job.

    Attributes:
        owner: Who carries the job.
        job: The job.
        over: Whether it has ended.
    """

    __slots__ = ("_advice", "_broken", "_parts", "_place", "job", "over", "owner")

    def __init__(self, owner: object, job: Job) -> None:
        self.owner = owner
        self.over = False
        self.job = job
        self._place: asyncio.Lock | None = None  # few have parts
        self._broken: tuple[tuple[ExecutorError, FailedAttempt], ...] = ()
        self._parts: dict[object, Usage] | None = None
        self._advice: Callable[[], ResponseHints] | None = None

    # ---- for its parts

    async def send(self, attempt: Callable[[], Awaitable[R | FailedAttempt]]) -> R:
        """Make an attempt as part of this one; one at a time, for it is one place.

        Raises:
            Closed: This one has ended before it came to that.
        """
        self._place = place = self._place or asyncio.Lock()
        async with place:
            if self.over:
                raise Closed("the call that this was part of has ended; nothing was sent")
            outcome = await attempt()
        if isinstance(outcome, FailedAttempt):
            self.job.sent = self.job.sent or outcome.failure.sent
            error = failure(self.job, outcome.failure, Disposition.FAILED)
            self.broke(error, outcome)
            raise error from outcome.cause
        if isinstance(outcome, Reply):
            reply = cast("Reply[object]", outcome)
            self.took(reply.usage, _id_of(reply.value))
            self._advice = reply.hints
            return cast("R", reply)
        return outcome

    def part(self, message_id: object) -> "NestedRequest":
        """One of its parts, which comes as a stream."""
        return NestedRequest(self, message_id)

    def took(self, usage: Usage | None, message_id: object = None) -> None:
        """A part took so much. Of whose message the id is known, it is counted once."""
        if usage is not None:
            self._parts = self._parts or {}
            self._parts[message_id or object()] = usage

    @property
    def known(self) -> int:
        """Of how many parts it is known what they took."""
        return len(self._parts or ())

    def returned(self, value: object, usage: Usage | None, known: int) -> None:
        """A call that is a part has returned this; so many parts were known when it began.

        What has a usage but is no message, such as an agent's account of itself, tells of those in between.
        """
        message_id = _id_of(value)
        if message_id is not None or known == self.known:
            self.took(usage, message_id)

    def broke(self, error: ExecutorError, broken: FailedAttempt, message_id: object = None) -> None:
        """A part has failed; this is what its caller is told."""
        self._broken += ((error, broken),)
        self.took(broken.failure.usage, message_id)

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

    def ended_by(self, error: BaseException) -> FailedAttempt | None:
        """The part that has failed with this exception, if one has; of a group of nothing else, the first."""
        if isinstance(error, ExceptionGroup):
            group = cast("ExceptionGroup[Exception]", error)
            parts = [self.ended_by(each) for each in group.exceptions]
            return parts[0] if None not in parts else None
        return next((broken for told, broken in self._broken if told is error), None)

    def counted(self, outcome: R | FailedAttempt) -> R | FailedAttempt:
        """What came of it: where its parts are known, it took what they took, also if it has failed.

        And what the message took that it returns, if that is none of theirs.
        """
        used = self._used
        if used is None or self._parts is None:
            return outcome
        if isinstance(outcome, Reply):
            reply = cast("Reply[object]", outcome)
            message_id = _id_of(reply.value)
            another = message_id is not None and message_id not in self._parts
            if another and reply.usage is not None:
                used = used.plus(reply.usage)
            self.job.composite = another or len(self._parts) > 1
            if not self.job.composite and self._advice is not None:
                reply = reply._replace(hints=self._advice)
            return cast("R", reply._replace(usage=used))
        if isinstance(outcome, FailedAttempt):
            free = FAILURE_POLICIES[outcome.failure.kind].refund or outcome.failure.usage is not None
            return FailedAttempt(
                replace(outcome.failure, usage=used if free else self.at_least), outcome.cause
            )
        return outcome

    @property
    def at_least(self) -> Usage | None:
        """What it took if its end is not known: what its parts took, or `None`, if more was expected."""
        used, expected = self._used, self.job.cost
        if used is None:
            return None
        inputs = used.input_tokens + used.cache_creation_tokens
        more = inputs > expected.input_tokens or used.output_tokens > expected.output_tokens
        return used if more else None

    @property
    def _used(self) -> Usage | None:
        return reduce(Usage.plus, self._parts.values()) if self._parts else None


class NestedRequest:
    """A part that comes as a stream: who is told how it ended."""

    def __init__(self, turn: AttemptContext, message_id: object) -> None:
        self._turn = turn
        self._message_id = message_id

    @property
    def attempts(self) -> int:
        """Which attempt it is part of."""
        return self._turn.job.attempts

    def complete(self, usage: Usage | None) -> None:
        """It was complete."""
        self._turn.took(usage, self._message_id)

    def broken(self, broken: FailedAttempt) -> StreamInterrupted:
        """It was broken off; what its reader is told."""
        error = interruption(self._turn.job, broken.failure)
        self._turn.broke(error, broken, self._message_id)
        return error

    def left(self, usage: Usage) -> None:
        """Its reader wants no more of it."""
        self._turn.took(usage, self._message_id)


def _id_of(value: object) -> str | None:
    """By what the API calls a message; a part may come back from the function that asked for it."""
    name = getattr(value, "id", None)
    return name if isinstance(name, str) else None


current_attempt: ContextVar[AttemptContext | None] = ContextVar("turn", default=None)
"""The attempt that the code which is running now is part of."""
