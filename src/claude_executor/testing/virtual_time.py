"""An asyncio event loop in which time passes only when nobody has anything to do.

Model: when callbacks are ready they run and the clock stands still; when none is ready the clock jumps to the
next timer. An hour of waiting costs as much as its callbacks. ``time.monotonic`` and ``time.time`` are not
touched: code under test must read ``loop.time()`` (or be handed a clock).

What the loop does about the real world:

* Work in threads (``asyncio.to_thread``, ``loop.run_in_executor``, ``anyio.to_thread``) takes no virtual
  time: while such work is running the loop waits for it for real, though no longer than ``patience`` real
  seconds while a timer is set (the thread may be waiting for that timer). Threads it knows nothing of are not
  waited for.
* Registered file descriptors are looked at whenever the loop runs dry, without waiting; a jump does not wait
  for them.
* When nothing is ready, no timer is set and no thread is at work, nothing can ever happen again: the loop
  waits ``patience`` real seconds for a descriptor or a foreign thread, then raises ``DeadlockError``.
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

# Descriptors are looked at once in so many rounds of a busy loop, so that signals get through to one that is
# never idle.
_ROUNDS_BETWEEN_LOOKS = 256

# Real seconds that a thread may work while nothing else can happen.
_LONGEST_THREAD = 60.0

_RESOLUTION = time.get_clock_info("monotonic").resolution


class DeadlockError(RuntimeError):
    """Every task waits for another: nothing is ready, no timer is set, no thread is at work."""


class _JumpingSelector(selectors.BaseSelector):
    """The loop's selector: where a real one would wait, it asks the loop what to do with the idle moment."""

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
            # Only the loop's own wake-up pipe is registered: its callbacks are in the ready queue already.
            if len(self.real.get_map()) <= 1 and self._rounds % _ROUNDS_BETWEEN_LOOKS:
                return []
            return self.real.select(0)
        assert self.idle is not None
        return self.idle(timeout)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing is ready.

    Args:
        start: What ``time()`` says at first, in seconds. Not zero, so that code which confuses 0 with "never"
            is found out.
        patience: Real seconds to wait for a descriptor or an unknown thread before giving up with
            ``DeadlockError``.
    """

    def __init__(self, start: float = 1_000.0, patience: float = 1.0) -> None:
        self._virtual_now = start
        self._patience = patience
        self._threads = 0
        selector = _JumpingSelector(selectors.DefaultSelector())
        super().__init__(selector)
        selector.idle = self._idle
        self._real_selector = selector.real

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._virtual_now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer; one that is due already finds a clock that has moved on by a hair, as a true one has.

        Otherwise whoever sets it again because rounding left a little to wait for would do so for ever.
        """
        soonest = self._virtual_now + self._clock_resolution
        return super().call_at(max(when, soonest), callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Executor | None,
        func: Callable[..., T],
        *args: Any,  # noqa: ANN401
    ) -> asyncio.Future[T]:
        """Run ``func`` in a thread; virtual time stands still until it is done."""
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
            # A thread may itself wait for one of our timers, so not for ever.
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
        # Jump to the timer itself, not by the rounded wait: whoever computed an instant must not be woken a
        # hair before it.
        due = scheduled[0].when() if scheduled else self._virtual_now + timeout
        self._virtual_now = max(self._virtual_now, due)
        # asyncio runs what is due before now + resolution. Months from the start a nanosecond is lost in
        # rounding, and without this nothing would ever be due again.
        self._clock_resolution = max(_RESOLUTION, math.ulp(self._virtual_now))
        return []

    def _deadlock(self) -> str:
        waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
        shown = ", ".join(waiting[:10]) + (", …" if len(waiting) > 10 else "")
        return f"nothing is ready and no timer is set; {len(waiting)} tasks wait for ever: {shown}"


def _busy_anyio_threads(loop: asyncio.AbstractEventLoop) -> int:
    """How many of anyio's worker threads are at work for this loop (anyio starts its own, past the loop)."""
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
        start: What the clock says at first, in seconds.
        patience: Real seconds to wait before a deadlock is declared.

    Returns:
        What the coroutine returns.

    Raises:
        DeadlockError: Nothing could ever happen again.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start, patience)) as runner:
        return runner.run(main)


def loop_time() -> float:
    """The running loop's time: a clock for whoever is made before the loop runs, such as a fixture.

    Outside a running loop it gives the last instant it saw.
    """
    global _last_seen  # noqa: PLW0603 - a clock is shared by nature; only its last reading is kept
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _last_seen
    _last_seen = loop.time()
    return _last_seen


_last_seen = 0.0
