"""The pump: performs on an event loop what the scheduler decides. One pump, one timer.

The caller's own coroutine carries its request: it waits for its turn on one future, makes the attempt itself,
and reports the outcome to the scheduler. There is no task for a request, so cancelling the caller cancels it.
The pump asks the scheduler what to do after every change, and sets one timer for when to ask again; nothing
polls.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from claude_executor.budget import Budget
from claude_executor.core.model.actions import Action, Disposition, Refuse, RequestLease
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.events import Event
from claude_executor.core.model.headers import NO_HINTS, ResponseHints
from claude_executor.core.model.job import Job
from claude_executor.core.model.options import RequestOptions
from claude_executor.core.model.request import RequestShape
from claude_executor.core.scheduling.scheduler import Scheduler
from claude_executor.errors import ExecutorError, StreamInterrupted
from claude_executor.runtime.dispatch.attempt import AttemptContext, current_attempt
from claude_executor.runtime.dispatch.leases import LeaseRequests
from claude_executor.runtime.dispatch.waiters import Waiters
from claude_executor.runtime.raising import failure, interruption, rejection
from claude_executor.sdk.outcome import FailedAttempt, Reply

T = TypeVar("T")
R = TypeVar("R")

SHORTEST_TIMER = 0.0005
"""Seconds; a shorter timer might find the clock unchanged."""


class Pump:
    """Carries requests for one executor, on one event loop.

    Attributes:
        idle: Set while no request is waiting or in flight.
        closing: Functions to call when the pump is closed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        on_event: Callable[[Event], None] | None,
        attempt_context: Callable[[int], AbstractContextManager[object]] | None,
        budget: Budget | None = None,
    ) -> None:
        """`on_event` is called on the event loop, `attempt_context` in the coroutine that carries a request.

        With a `budget` the scheduler has a membership.
        """
        self._scheduler = scheduler
        self._clock = clock
        self._random = random
        self._on_event = on_event
        self._attempt_context = attempt_context
        scheduler.event_buffer.listening = on_event is not None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._due = False
        self._waiters = Waiters()
        self._leases = (
            None
            if budget is None
            else LeaseRequests(scheduler, budget, clock=clock, random=random, on_answer=self.pump)
        )
        self.idle = asyncio.Event()
        self.idle.set()
        self.closing: set[Callable[[], None]] = set()

    async def start(self) -> None:
        """Bind the pump to the running event loop."""
        if self._leases is not None:
            await self._leases.open()
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Refuse all waiting requests, and stop."""
        self.close(refuse_waiting=True)
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the pump; None before it is started and after it is stopped."""
        return self._loop

    async def leave(self) -> None:
        """Leave the group, which would notice by itself only after some seconds."""
        if self._leases is not None:
            await self._leases.leave()

    def close(self, *, refuse_waiting: bool) -> None:
        """Accept no more requests; if `refuse_waiting`, refuse those that wait."""
        self._perform(self._scheduler.close(self._clock(), refuse_waiting=refuse_waiting))
        for callback in tuple(self.closing):
            callback()
        self._announce()

    # ---- carrying a request

    def accept(self, shape: RequestShape, options: RequestOptions) -> Job:
        """Accept a request, and return its job.

        Raises:
            TypeError: The options are of the wrong type.
            ValueError: The deadline is not a finite number of seconds.
            RuntimeError: The running event loop is not the pump's.
            Rejected: The request is turned away at once.
        """
        self.require_own_loop()
        priority, tenant, deadline = options.priority, options.tenant, options.deadline
        if not isinstance(priority, int) or not isinstance(tenant, str):
            raise TypeError(f"priority must be an int and tenant a str, got {priority!r} and {tenant!r}")
        require_finite(deadline)
        now = self._clock()
        deadline_at = math.inf if deadline is None else now + deadline
        job = self._scheduler.submit(shape, now, priority=priority, tenant=tenant, deadline_at=deadline_at)
        if isinstance(job, Refuse):
            self._announce()
            raise rejection(job)
        self.idle.clear()
        self.pump()
        return job

    def require_own_loop(self) -> None:
        """Check that the running event loop is the one the pump was started in.

        Raises:
            RuntimeError: It is another one.
        """
        if asyncio.get_running_loop() is not self._loop and self._loop is not None:
            raise RuntimeError(
                "this executor lives in another event loop: use it in the one it was entered in, or use "
                "claude_executor.sync.Executor, which any number of threads may share"
            )

    async def attempt(self, job: Job, attempt: Callable[[], Awaitable[R | FailedAttempt]]) -> R:
        """Make attempts, each in its turn, until one succeeds. Its job is still in flight then.

        Callers wait in this frame and no deeper, because there may be hundreds of thousands.
        """
        cause: Exception | None = None
        while True:
            if (start := self._waiters.start_of(job, cause)) is not None:
                try:
                    await start
                except ExecutorError as error:
                    raise error from cause
                except BaseException:  # cancelled, closed or thrown away: the caller is gone
                    self._scheduler.cancel(job, self._clock())
                    self._soon()
                    raise
                finally:
                    self._waiters.forget(job)
            outcome = await self._once(job, attempt)
            if not isinstance(outcome, FailedAttempt):
                return outcome
            cause = outcome.cause
            disposition = self._scheduler.on_failure(job, outcome.failure, self._clock(), self._random())
            self._soon()
            if disposition is not Disposition.AGAIN:
                raise failure(job, outcome.failure, disposition) from cause

    async def _once(self, job: Job, attempt: Callable[[], Awaitable[R | FailedAttempt]]) -> R | FailedAttempt:
        """Make one attempt of a job that has its turn."""
        turn = AttemptContext(self, job)
        mark = current_attempt.set(turn)
        try:
            try:
                outcome = await (
                    attempt() if self._attempt_context is None else self._within(job.number, attempt)
                )
            except Exception as error:
                await turn.end()
                part = turn.ended_by(error)
                if part is None:
                    raise
                outcome = part
            else:
                if turn.divided:
                    await turn.end()
            return turn.counted(outcome)
        except BaseException:
            self.on_abandoned(job, turn.at_least)
            raise
        finally:
            turn.over = True
            current_attempt.reset(mark)

    async def _within(
        self, number: int, attempt: Callable[[], Awaitable[R | FailedAttempt]]
    ) -> R | FailedAttempt:
        """Make one attempt in the context that `attempt_context` returns for it."""
        assert self._attempt_context is not None
        with self._attempt_context(number):
            return await attempt()
        raise RuntimeError(
            "the context that `attempt_context` returned swallowed an exception, which it must let through"
        )

    def turn(self) -> AttemptContext | None:
        """Return the attempt of this pump that the running code is part of, if any."""
        turn = current_attempt.get()
        return turn if turn is not None and turn.owner is self and not turn.over else None

    def on_response(self, job: Job, reply: Reply[T]) -> T:
        """Settle an attempt with its whole response, and return the value of that."""
        now = self._clock()
        hints = reply.hints() if self._scheduler.headers_due(job, now) else NO_HINTS
        self._scheduler.on_response(job, reply.usage, hints, now)
        self._soon()
        return reply.value

    def on_response_started(self, job: Job, usage: Usage, hints: ResponseHints) -> "StreamHandle":
        """Note that the response of a job has begun, and return what settles its ending."""
        self._scheduler.on_response_started(job, usage, hints, self._clock())
        self._soon()
        return StreamHandle(self, job)

    def on_stream_complete(self, job: Job, usage: Usage | None) -> None:
        """Settle a streamed response that is complete."""
        self._scheduler.on_response(job, usage, NO_HINTS, self._clock())
        self._soon()

    def on_failure(self, job: Job, broken: FailedAttempt) -> StreamInterrupted:
        """Settle a streamed response that broke off, and return the exception for its reader."""
        self._scheduler.on_failure(job, broken.failure, self._clock(), self._random(), again=False)
        self._soon()
        return interruption(job, broken.failure)

    def on_abandoned(self, job: Job, used: Usage | None = None) -> None:
        """Settle an attempt that was abandoned or ended unexpectedly. `used` is its usage, if known."""
        self._scheduler.on_abandoned(job, self._clock(), used)
        self._soon()

    # ---- the pump

    def _soon(self) -> None:
        """Pump once for all changes in this iteration of the event loop."""
        self._announce()
        if not self._due and self._loop is not None:
            self._due = True
            self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Perform what the scheduler decides, and set the timer for when to ask it again."""
        self._due = False
        if self._loop is None:  # stopped meanwhile; `leave` gives back to the group what is left
            return
        now = self._clock()
        self._perform(self._scheduler.poll(now))
        wake_at = self._scheduler.wake_at
        if wake_at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = wake_at
            self._timer = self._loop.call_later(max(wake_at - now, SHORTEST_TIMER), self._on_timer)
        self._announce()

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self.pump()

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if not isinstance(action, RequestLease):
                self._waiters.resolve(action)
            elif self._leases is not None and self._loop is not None:
                self._leases.send(action, self._loop)
        if self._scheduler.idle:
            self.idle.set()

    def _announce(self) -> None:
        """Pass events to `on_event`. An exception there is reported and does not disturb the requests."""
        if self._on_event is None:
            return
        for event in self._scheduler.event_buffer.take():
            try:
                self._on_event(event)
            except Exception as error:  # the observer's code may raise anything
                context = {"message": "on_event raised an exception", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def require_finite(deadline: float | None) -> None:
    """Check a deadline in seconds.

    Raises:
        ValueError: It is not a finite number.
    """
    if deadline is not None and not deadline < math.inf:
        raise ValueError(f"deadline must be a finite number of seconds, got {deadline!r}")


class StreamHandle:
    """Settles the ending of a streamed response."""

    def __init__(self, pump: Pump, job: Job) -> None:
        self._pump = pump
        self._job = job

    @property
    def attempts(self) -> int:
        """The number of attempts the request took."""
        return self._job.attempts

    def complete(self, usage: Usage | None) -> None:
        """Settle a response that is complete."""
        self._pump.on_stream_complete(self._job, usage)

    def broken(self, broken: FailedAttempt) -> StreamInterrupted:
        """Settle a response that broke off; return the exception for its reader."""
        return self._pump.on_failure(self._job, broken)

    def left(self, usage: Usage) -> None:
        """Settle a response that its reader abandoned."""
        self._pump.on_abandoned(self._job, usage)
