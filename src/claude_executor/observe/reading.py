"""Reads the state of an executor when metrics are collected, in whatever thread that is.

Exporters collect in threads of their own, and an executor belongs to its event loop: so the loop is asked.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from claude_executor.core.model.snapshot import Snapshot
from claude_executor.observe import names
from claude_executor.observe.names import Key, Metric

PATIENCE = 1.0
"""Seconds that a busy event loop may take; after that there are no values this time."""

_BREAKER = {"closed": 0.0, "half-open": 1.0, "open": 2.0}


class Reading:
    """Reads snapshots, once it has been told of whom."""

    def __init__(self) -> None:
        self._snapshot: Callable[[], Snapshot] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Read `snapshot` from now on, in the event loop that is running.

        Raises:
            RuntimeError: No event loop is running.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._snapshot = snapshot

    def values(self) -> dict[Metric, dict[Key, float]]:
        """The metrics of this moment; empty when nobody is watched, or the event loop does not answer."""
        snapshot = self._read()
        return {} if snapshot is None else _values(snapshot)

    def _read(self) -> Snapshot | None:
        take, loop = self._snapshot, self._loop
        if take is None or loop is None:
            return None
        if threading.get_ident() == self._thread:
            return take()
        answer: Future[Snapshot] = Future()
        try:
            loop.call_soon_threadsafe(lambda: answer.set_result(take()))
        except RuntimeError:  # the loop is closed: nothing changes any more
            return take()
        try:
            return answer.result(PATIENCE)
        except TimeoutError:
            return None


def _values(snapshot: Snapshot) -> dict[Metric, dict[Key, float]]:
    values: dict[Metric, dict[Key, float]] = {m: {} for m in (*names.ACCUMULATED, *names.MEASURED)}
    values[names.PARKED][()] = snapshot.waiting_to_retry
    for name, pool in snapshot.pools.items():
        values[names.QUEUED][name,] = pool.queued
        values[names.RUNNING][name,] = pool.running
        values[names.CONCURRENCY][name,] = pool.concurrency
        values[names.BREAKER][name,] = _BREAKER[pool.breaker]
        for why, seconds in pool.held_for.items():
            values[names.HELD][name, why] = seconds
        for resource, state in pool.resources.items():
            values[names.LIMIT][name, resource] = state.limit
            values[names.LEVEL][name, resource] = state.level
            values[names.UTILIZATION][name, resource] = state.utilisation
    return values
