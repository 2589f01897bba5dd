"""One attempt while it is being made, and the requests that are nested in it.

A function called under an executor may use that executor again. Nested requests reuse the concurrency slot of
the call: waiting for a second one could deadlock. They are neither estimated nor retried by themselves. Their
usage counts as that of the call; if the call fails because of one, the whole call is retried.
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
        owner: The pump that carries the job.
        job: The job.
        over: Whether the attempt has ended.
    """

    __slots__ = ("_broken", "_hints", "_parts", "_place", "job", "over", "owner")

    def __init__(self, owner: object, job: Job) -> None:
        self.owner = owner
        self.over = False
        self.job = job
        self._place: asyncio.Lock | None = None  # few have parts
        self._broken: tuple[tuple[ExecutorError, FailedAttempt], ...] = ()
        self._parts: dict[object, Usage] | None = None
        self._hints: Callable[[], ResponseHints] | None = None

    # ---- for its parts

    async def send(self, attempt: Callable[[], Awaitable[R | FailedAttempt]]) -> R:
        """Make a nested attempt; one at a time, because they share one slot.

        Raises:
            Closed: The outer attempt ended first.
        """
        self._place = place = self._place or asyncio.Lock()
        async with place:
            if self.over:
                raise Closed("the call that this request was part of has ended; nothing was sent")
            outcome = await attempt()
        if isinstance(outcome, FailedAttempt):
            self.job.sent = self.job.sent or outcome.failure.sent
            error = failure(self.job, outcome.failure, Disposition.FAILED)
            self.broke(error, outcome)
            raise error from outcome.cause
        if isinstance(outcome, Reply):
            reply = cast("Reply[object]", outcome)
            self.took(reply.usage, _id_of(reply.value))
            self._hints = reply.hints
            return cast("R", reply)
        return outcome

    def part(self, message_id: object) -> "NestedRequest":
        """Return the ending of a nested request whose response is streamed."""
        return NestedRequest(self, message_id)

    def took(self, usage: Usage | None, message_id: object = None) -> None:
        """Count the usage of a nested request; once for each `message_id`, if that is known."""
        if usage is not None:
            self._parts = self._parts or {}
            self._parts[message_id or object()] = usage

    @property
    def known(self) -> int:
        """The number of nested requests with a known usage."""
        return len(self._parts or ())

    def returned(self, value: object, usage: Usage | None, known: int) -> None:
        """Count what a nested call returned. `known` is how many usages were known when it began.

        A result that has a usage but is not a message, such as the summary of an agent, sums up the requests
        in between, so it counts only if none of these was counted.
        """
        message_id = _id_of(value)
        if message_id is not None or known == self.known:
            self.took(usage, message_id)

    def broke(self, error: ExecutorError, broken: FailedAttempt, message_id: object = None) -> None:
        """Note that a nested request failed; `error` is the exception that its caller gets."""
        self._broken += ((error, broken),)
        self.took(broken.failure.usage, message_id)

    # ---- for its owner

    async def end(self) -> None:
        """Begin no more nested requests, and wait for one that was left under way: it holds the slot."""
        self.over = True
        if self._place is not None:
            async with self._place:
                pass

    @property
    def divided(self) -> bool:
        """Whether the executor has sent nested requests."""
        return self._place is not None

    def ended_by(self, error: BaseException) -> FailedAttempt | None:
        """Return the nested attempt that failed with this exception; of a group of such, the first."""
        if isinstance(error, ExceptionGroup):
            group = cast("ExceptionGroup[Exception]", error)
            parts = [self.ended_by(each) for each in group.exceptions]
            return parts[0] if None not in parts else None
        return next((broken for raised, broken in self._broken if raised is error), None)

    def counted(self, outcome: R | FailedAttempt) -> R | FailedAttempt:
        """Return the outcome with the usage of the nested requests, if known, also of a failed attempt.

        The usage of a returned message is added if it is not that of a nested request.
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
            if not self.job.composite and self._hints is not None:
                reply = reply._replace(hints=self._hints)
            return cast("R", reply._replace(usage=used))
        if isinstance(outcome, FailedAttempt):
            free = FAILURE_POLICIES[outcome.failure.kind].refund or outcome.failure.usage is not None
            return FailedAttempt(
                replace(outcome.failure, usage=used if free else self.at_least), outcome.cause
            )
        return outcome

    @property
    def at_least(self) -> Usage | None:
        """The usage of its nested requests, for an attempt without a known end; None if more was expected."""
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
    """The ending of a nested request whose response is streamed."""

    def __init__(self, turn: AttemptContext, message_id: object) -> None:
        self._turn = turn
        self._message_id = message_id

    @property
    def attempts(self) -> int:
        """The number of the outer attempt."""
        return self._turn.job.attempts

    def complete(self, usage: Usage | None) -> None:
        """Settle a response that is complete."""
        self._turn.took(usage, self._message_id)

    def broken(self, broken: FailedAttempt) -> StreamInterrupted:
        """Settle a response that broke off; return the exception for its reader."""
        error = interruption(self._turn.job, broken.failure)
        self._turn.broke(error, broken, self._message_id)
        return error

    def left(self, usage: Usage) -> None:
        """Settle a response that its reader abandoned."""
        self._turn.took(usage, self._message_id)


def _id_of(value: object) -> str | None:
    """Return the API's id of a message; the function may return the message of a nested request."""
    name = getattr(value, "id", None)
    return name if isinstance(name, str) else None


current_attempt: ContextVar[AttemptContext | None] = ContextVar("turn", default=None)
"""The attempt that the running code is part of."""
