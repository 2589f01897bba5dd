"""Reads an executor's state when metrics are collected, from any thread.

Exporters collect in threads of their own, but an executor may be read only in its event loop. So the snapshot
is taken there.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from claude_executor.core.model.snapshot import Snapshot
from claude_executor.observe import names
from claude_executor.observe.names import Key, Metric

TIMEOUT = 1.0
"""Seconds to wait for a busy event loop; after that, this collection gets no values."""

_BREAKER = {"closed": 0.0, "half-open": 1.0, "open": 2.0}


class SnapshotReader:
    """Reads the metrics of a snapshot. Without `watch` there are none."""

    def __init__(self) -> None:
        self._snapshot: Callable[[], Snapshot] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Take snapshots by calling `snapshot` in the event loop that is now running.

        Raises:
            RuntimeError: No event loop is running.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._snapshot = snapshot

    def metrics(self) -> dict[Metric, dict[Key, float]]:
        """Return the current values; none without `watch`, or if the event loop does not respond in time."""
        snapshot = self._take_snapshot()
        return {} if snapshot is None else _metrics_of(snapshot)

    def _take_snapshot(self) -> Snapshot | None:
        take, loop = self._snapshot, self._loop
        if take is None or loop is None:
            return None
        if threading.get_ident() == self._thread:
            return take()
        result: Future[Snapshot] = Future()
        try:
            loop.call_soon_threadsafe(lambda: result.set_result(take()))
        except RuntimeError:  # the loop is closed, so the state no longer changes
            return take()
        try:
            return result.result(TIMEOUT)
        except TimeoutError:
            return None


def _metrics_of(snapshot: Snapshot) -> dict[Metric, dict[Key, float]]:
    values: dict[Metric, dict[Key, float]] = {m: {} for m in (*names.SNAPSHOT_COUNTERS, *names.GAUGES)}
    values[names.WAITING_TO_RETRY][()] = snapshot.waiting_to_retry
    for name, pool in snapshot.pools.items():
        values[names.QUEUED][name,] = pool.queued
        values[names.RUNNING][name,] = pool.running
        values[names.CONCURRENCY][name,] = pool.concurrency
        values[names.BREAKER][name,] = _BREAKER[pool.breaker]
        for why, seconds in pool.held_for.items():
            values[names.QUEUE_HELD][name, why] = seconds
        for resource, state in pool.resources.items():
            values[names.LIMIT][name, resource] = state.limit
            values[names.LEVEL][name, resource] = state.level
            values[names.UTILIZATION][name, resource] = state.utilization
    return values
