"""An asyncio event loop in which time passes only while every task waits.

Model: while callbacks are ready, they run and the clock stands still; when none is ready, the clock jumps to
the next timer. An hour of waiting costs no more than its callbacks. ``time.monotonic`` and ``time.time`` are
unchanged: code under test must read ``loop.time()``, or take a clock as an argument.

The real world:

* Work in threads (``asyncio.to_thread``, ``loop.run_in_executor``, ``anyio.to_thread``) takes no virtual
  time. The loop waits for it in real time, but no longer than ``patience`` real seconds while a timer is set,
  because the thread may be waiting for that timer. The loop does not wait for threads started otherwise.
* Registered file descriptors are polled whenever no callback is ready. The clock does not wait for them.
* When no callback is ready, no timer is set and no thread works, nothing can happen any more. The loop waits
  ``patience`` real seconds for a descriptor or another thread, then raises ``DeadlockError``.
"""

import asyncio
import math
import selectors
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A busy loop polls its descriptors once in this many rounds, so that signals reach a loop that is never idle.
_ROUNDS_BETWEEN_LOOKS = 256

# The longest time, in real seconds, that the loop waits for a thread when no timer is set.
_LONGEST_THREAD = 60.0

_RESOLUTION = time.get_clock_info("monotonic").resolution


class DeadlockError(RuntimeError):
    """Every task waits for another: no callback is ready, no timer is set, no thread works."""


class _JumpingSelector(selectors.BaseSelector):
    """The loop's selector. Where a real one would wait, it calls ``idle``."""

    def __init__(self, real: selectors.BaseSelector) -> None:
        self.real = real
        self.idle: Callable[[float | None], list[tuple[selectors.SelectorKey, int]]] | None = None
        self._rounds = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        return self.real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        return self.real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        return self.real.modify(fileobj, events, data)

    def get_map(self) -> Any:  # noqa: ANN401
        return self.real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        return self.real.get_key(fileobj)

    def close(self) -> None:
        self.real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            self._rounds += 1
            # With only the loop's own wake-up pipe registered, all callbacks are in the ready queue already.
            if len(self.real.get_map()) <= 1 and self._rounds % _ROUNDS_BETWEEN_LOOKS:
                return []
            return self.real.select(0)
        assert self.idle is not None
        return self.idle(timeout)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing is ready.

    Args:
        start: The first value of ``time()``, in seconds. It is not zero, to expose code that confuses 0 with
            "never".
        patience: Real seconds to wait for a descriptor or an unknown thread before ``DeadlockError``.
    """

    def __init__(self, start: float = 1_000.0, patience: float = 1.0) -> None:
        self._now = start
        self._patience = patience
        self._threads = 0
        selector = _JumpingSelector(selectors.DefaultSelector())
        super().__init__(selector)
        selector.idle = self._idle
        self._real_selector = selector.real

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer. A timer that is already due fires one clock resolution later, as on a real clock.

        Without that step, code that sets its timer again because of a rounding error would loop forever.
        """
        soonest = self._now + self._clock_resolution
        return super().call_at(max(when, soonest), callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Executor | None,
        func: Callable[..., T],
        *args: Any,  # noqa: ANN401
    ) -> asyncio.Future[T]:
        """Run ``func`` in a thread. Virtual time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        """Wait for the threads of the default executor, in real time."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._threads -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    def _idle(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._threads or _busy_anyio_threads(self):
            # Bounded, because the thread may itself wait for one of the timers.
            events = self._real_selector.select(self._patience if timeout else _LONGEST_THREAD)
        else:
            events = self._real_selector.select(0)
        if events:
            return events
        if timeout is None:
            events = self._real_selector.select(self._patience)
            if not events:
                raise DeadlockError(self._deadlock())
            return events
        scheduled = getattr(self, "_scheduled", None)
        # Jump to the timer itself, not by the rounded timeout: a timer must not fire before its instant.
        due = scheduled[0].when() if scheduled else self._now + timeout
        self._now = max(self._now, due)
        # asyncio runs the timers that are due before now + resolution. Months after the start a nanosecond is
        # lost in rounding, and with a fixed resolution no timer would ever be due again.
        self._clock_resolution = max(_RESOLUTION, math.ulp(self._now))
        return []

    def _deadlock(self) -> str:
        waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
        shown = ", ".join(waiting[:10]) + (", …" if len(waiting) > 10 else "")
        return f"nothing is ready and no timer is set; {len(waiting)} tasks wait forever: {shown}"


def _busy_anyio_threads(loop: asyncio.AbstractEventLoop) -> int:
    """Count the worker threads of anyio that work for this loop; anyio starts them without the loop."""
    lowlevel = sys.modules.get("anyio.lowlevel")
    if lowlevel is None:
        return 0
    variables = getattr(lowlevel, "_run_vars", {}).get(loop)
    if not variables:
        return 0
    counts = {getattr(variable, "_name", ""): value for variable, value in variables.items()}
    return len(counts.get("_threadpool_workers", ())) - len(counts.get("_threadpool_idle_workers", ()))


def run_virtual(main: Coroutine[Any, Any, T], *, start: float = 1_000.0, patience: float = 1.0) -> T:
    """Run a coroutine to its end in virtual time: ``asyncio.run`` without the waiting.

    Args:
        main: The coroutine.
        start: The first value of the clock, in seconds.
        patience: Real seconds to wait before ``DeadlockError``.

    Returns:
        The result of the coroutine.

    Raises:
        DeadlockError: Every task waits, and no timer or thread can wake one.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start, patience)) as runner:
        return runner.run(main)


def loop_time() -> float:
    """Return the time of the running loop: a clock for objects that are made before the loop runs.

    Outside a running loop the last reading is returned.
    """
    global _last_seen  # noqa: PLW0603 - a clock is shared by its nature; only its last reading is kept
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _last_seen
    _last_seen = loop.time()
    return _last_seen


_last_seen = 0.0
