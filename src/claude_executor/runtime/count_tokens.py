"""Counting tokens: requests with a limit of their own, each of which takes one of it and nothing else.

Nothing is estimated, reserved or settled: `aiolimiter` paces all counts of an executor together. A 429 holds
up all of them for as long as it says. Failed counts are retried here and nowhere else.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from aiolimiter import AsyncLimiter

from claude_executor.core.control.retry import RetryPolicy, jittered
from claude_executor.core.model.actions import Disposition
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, FailureKind
from claude_executor.core.model.limits import COUNT_TOKENS, Limits
from claude_executor.errors import DeadlineExceeded, Rejected
from claude_executor.runtime.raising import failure
from claude_executor.sdk.outcome import FailedAttempt

if TYPE_CHECKING:
    from claude_executor.sdk.outcome import Reply

R = TypeVar("R")

PER_MINUTE = 5_000.0
"""The limit of the start tier, used where none is declared."""
DEFAULT_WAIT = 1.0
"""Seconds to wait after a 429 that does not say how long."""

_counting: ContextVar["TokenCountLimiter | None"] = ContextVar("counting", default=None)
"""The limiter that has given the running code its turn."""


class TokenCountLimiter:
    """Paces and retries the token counts of one executor, on its event loop."""

    def __init__(
        self, limits: Limits | Mapping[str, Limits] | None, policy: RetryPolicy, random: Callable[[], float]
    ) -> None:
        """`limits` are the executor's; only the entry for `COUNT_TOKENS` matters here."""
        self._policy = policy
        self._random = random
        self._opens_at = -math.inf
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits | Mapping[str, Limits] | None) -> None:
        """Replace the limits from now on."""
        declared = limits.get(COUNT_TOKENS) if isinstance(limits, Mapping) else None
        rpm = PER_MINUTE if declared is None or declared.rpm is None else declared.rpm
        # A second's worth at once, or one: how much more the API would take is not published.
        burst = max(rpm / 60.0, 1.0)
        self._limiter = AsyncLimiter(burst, burst * 60.0 / rpm)

    @property
    def counting(self) -> bool:
        """Whether the running code is an attempt that this limiter has given its turn."""
        return _counting.get() is self

    async def count(
        self, attempt: Callable[[], Awaitable["Reply[int] | FailedAttempt"]], *, deadline: float | None
    ) -> int:
        """Return how many tokens were counted, after as many attempts as the policy allows.

        Raises:
            Rejected: Nothing was sent.
            Failed: The last attempt failed.
        """
        progress = _Progress()

        async def observed() -> "Reply[int] | FailedAttempt":
            progress.attempts += 1
            outcome = await attempt()
            if isinstance(outcome, FailedAttempt):
                progress.sent = progress.sent or outcome.failure.sent
                progress.failed = outcome
            return outcome

        try:
            outcome = await self.carry(observed, deadline=deadline, again=True)
        except Rejected as error:
            last = progress.failed
            if last is None or not progress.sent:
                raise
            late = isinstance(error, DeadlineExceeded)
            raise failure(
                progress, last.failure, Disposition.TOO_LATE if late else Disposition.FAILED
            ) from last.cause
        if isinstance(outcome, FailedAttempt):
            raise failure(progress, outcome.failure, Disposition.FAILED) from outcome.cause
        return outcome.value

    async def carry(
        self, attempt: Callable[[], Awaitable[R | FailedAttempt]], *, deadline: float | None, again: bool
    ) -> R | FailedAttempt:
        """Make attempts, each when the limit allows, until one succeeds or the policy ends them.

        An attempt that asks the same limiter again, through a client with the executor's middleware, is not
        paced twice.

        Args:
            attempt: Makes one attempt.
            deadline: Seconds from now by which the last attempt must have started.
            again: Whether to retry failures other than a 429.

        Returns:
            What the last attempt returned.

        Raises:
            DeadlineExceeded: An attempt, first or later, could not start before the deadline.
        """
        if self.counting:
            return await attempt()
        now = asyncio.get_running_loop().time
        last_at = math.inf if deadline is None else now() + deadline
        failed = 0
        while True:
            await self._turn(deadline, last_at)
            mark = _counting.set(self)
            try:
                outcome = await attempt()
            finally:
                _counting.reset(mark)
            if not isinstance(outcome, FailedAttempt):
                return outcome
            failure = outcome.failure
            if failure.kind is FailureKind.QUOTA:
                wait = failure.hints.retry_after or DEFAULT_WAIT
                self._opens_at = max(self._opens_at, now() + jittered(wait, self._random()))
                if self._opens_at >= last_at:
                    return outcome
                continue
            failed += 1
            if not (again and _may_succeed(failure)) or failed >= self._policy.max_attempts:
                return outcome
            delay = self._policy.delay(failed - 1, self._random(), retry_after=failure.hints.retry_after)
            if now() + delay >= last_at:
                return outcome
            await asyncio.sleep(delay)

    async def _turn(self, deadline: float | None, last_at: float) -> None:
        """Wait until the limit, and no 429, stands against one more count."""
        now = asyncio.get_running_loop().time
        while True:
            if max(now(), self._opens_at) >= last_at:
                raise _too_late()
            try:
                async with asyncio.timeout_at(None if deadline is None else last_at):
                    await self._limiter.acquire()
            except TimeoutError:
                raise _too_late() from None
            if (wait := self._opens_at - now()) <= 0.0:
                return
            if self._opens_at < last_at:
                await asyncio.sleep(wait)


class _Progress:
    """The progress of one count; see `Attempted`."""

    def __init__(self) -> None:
        self.attempts = 0
        self.sent = False
        self.failed: FailedAttempt | None = None


def _may_succeed(failure: Failure) -> bool:
    return FAILURE_POLICIES[failure.kind].retry and failure.hints.should_retry is not False


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the tokens cannot be counted before the deadline; allow more time")
