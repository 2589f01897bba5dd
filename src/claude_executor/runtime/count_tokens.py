"""Counting tokens: requests with a limit of their own, each of which takes one of it and nothing else.

So nothing is estimated, reserved or settled, and they stand in nobody's way: they are paced by `aiolimiter`,
all those of an executor together. A 429 holds all of them up for as long as it says; whatever fails is tried
again here and nowhere else.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from aiolimiter import AsyncLimiter

from claude_executor.core.control.retry import RetryPolicy, jittered
from claude_executor.core.model.failure import FAILURE_POLICIES, FailureKind
from claude_executor.core.model.limits import COUNT_TOKENS, Limits
from claude_executor.errors import DeadlineExceeded
from claude_executor.sdk.outcome import FailedAttempt

PER_MINUTE = 5_000.0
"""Of the start tier; where nothing else is declared."""
_UNTOLD = 1.0
"""Seconds to wait after a 429 that does not say how long."""


class TokenCountLimiter:
    """Paces what counts tokens, for one executor, on its event loop."""

    def __init__(
        self, limits: Limits | Mapping[str, Limits] | None, policy: RetryPolicy, random: Callable[[], float]
    ) -> None:
        """`limits` are the executor's; of these only those of `COUNT_TOKENS` matter."""
        self._policy = policy
        self._random = random
        self._opens_at = -math.inf
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits | Mapping[str, Limits] | None) -> None:
        """Other limits are in force from now on."""
        declared = limits.get(COUNT_TOKENS) if isinstance(limits, Mapping) else None
        rpm = PER_MINUTE if declared is None or declared.rpm is None else declared.rpm
        # A second's worth at once, or one: how much more the API would take is not published.
        burst = max(rpm / 60.0, 1.0)
        self._limiter = AsyncLimiter(burst, burst * 60.0 / rpm)

    async def carry(
        self, attempt: Callable[[], Awaitable[object]], *, deadline: float | None, again: bool
    ) -> None:
        """Have attempts made, each when the limit allows, until one succeeds or it is enough.

        Args:
            attempt: Makes one; a `FailedAttempt` is one that failed.
            deadline: Seconds from now by which the last of them must have started.
            again: Whether to try again what failed for another reason than the limit.

        Raises:
            DeadlineExceeded: It could not start before its deadline, the first time or again.
        """
        now = asyncio.get_running_loop().time
        last_at = math.inf if deadline is None else now() + deadline
        failed = 0
        while True:
            if max(now(), self._opens_at) >= last_at:
                raise _too_late()
            try:
                async with asyncio.timeout_at(None if deadline is None else last_at):
                    await self._limiter.acquire()
            except TimeoutError:
                raise _too_late() from None
            if (wait := self._opens_at - now()) > 0.0:
                if self._opens_at < last_at:
                    await asyncio.sleep(wait)
                continue
            outcome = await attempt()
            if not isinstance(outcome, FailedAttempt):
                return
            failure = outcome.failure
            hint = failure.hints.retry_after
            if failure.kind is FailureKind.QUOTA:
                self._opens_at = max(self._opens_at, now() + jittered(hint or _UNTOLD, self._random()))
                if self._opens_at >= last_at:
                    return
                continue
            failed += 1
            told_not_to = failure.hints.should_retry is False
            if not (again and FAILURE_POLICIES[failure.kind].retry) or told_not_to:
                return
            delay = self._policy.delay(failed - 1, self._random(), retry_after=hint)
            if failed >= self._policy.max_attempts or now() + delay >= last_at:
                return
            await asyncio.sleep(delay)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("tokens cannot be counted before the deadline; allow it more time")
