"""What the lines of results cannot tell of a run, kept in a file beside them, for the report.

::

    timeline = Timeline(timeline_of(results))
    async with Executor(on_event=timeline.listen) as executor:
        with timeline.keeping(executor.snapshot):
            …

The file is JSONL. A run begins with ``{"at": unix seconds, "start": 1}``. Every later line says what has come
about since the line before: attempts, retries, 429s, and for every pool what was used of each limit and how
long what held the line up; and how levels, line, circuit breaker and requests in flight are now. What is 0 is
left out, a breaker that is closed too, and limits are told when they have changed. The last line of a run has
``"end": true``; a run that was killed has none, and may have half a line. Nothing in it is a prompt, an
answer or a key.

What is begun anew has no line in the file before it has a result: until then those of what was there stay.

A run of up to ten minutes has a line a second; later a line comes each time the run has grown by a 600th, for
a picture has no more points than that. A day makes 3,600 lines.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from claude_executor import AttemptFailed, Event, PoolState, Snapshot
from claude_executor.bulk.results.disk import resolve_symlink

FORMAT = 1
SHORTEST = 1.0
"""Seconds between two lines, at least."""
FINENESS = 600
"""Lines that a run of any length is told in, or a few times as many."""
LONGEST_FILE = 8 << 20
"""Bytes after which only ends are written, for a job that was resumed very often."""

_log = logging.getLogger(__name__)
_COUNTS = ("attempts", "retries", "answered", "failed")


def timeline_of(results: Path) -> Path:
    """Where the timeline of a results file is: ``a.jsonl`` has ``a.timeline.jsonl`` beside it."""
    results = resolve_symlink(results)
    return results.with_name(results.name.removesuffix(".jsonl") + ".timeline.jsonl")


class Timeline:
    """Writes the timeline of a run. Whatever goes wrong with that, the run goes on."""

    def __init__(
        self,
        path: Path,
        *,
        begun: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is written before `keeping`.

        Args:
            path: The file; what it holds of earlier runs is kept.
            begun: For results that begin anew: whether there are any yet. Until then what the file holds
                stays; then it goes. If there never are, nothing is written.
            clock: The executor's.
            wall: Unix time.
        """
        self._path = path
        self._begun = begun
        self._clock = clock
        self._wall = wall
        self._file: BinaryIO | None = None
        self._is_on_disk = False
        self._snapshot: Callable[[], Snapshot] | None = None
        self._before: dict[str, float] = {}
        self._limits: dict[str, tuple[float, str, float]] = {}
        self._events: Counter[str] = Counter()

    def listen(self, event: Event) -> None:
        """Something happened in the executor."""
        if isinstance(event, AttemptFailed):
            self._events[str(event.status) if event.status in {429, 529} else "errors"] += 1

    @contextmanager
    def keeping(self, snapshot: Callable[[], Snapshot]) -> Generator[None]:
        """Write for as long as the block lasts. Must be entered on the executor's event loop."""
        loop = asyncio.get_running_loop()
        began, timer = self._clock(), None

        def again() -> None:
            nonlocal timer
            self._write()
            timer = loop.call_later(max(SHORTEST, (self._clock() - began) / FINENESS), again)

        self._begin(snapshot)
        timer = loop.call_later(SHORTEST, again)
        try:
            yield
        finally:
            timer.cancel()
            self._write({"end": True})
            if self._file is not None:
                with suppress(OSError):  # what could not be written was told by `_write`
                    self._file.close()

    # ---- writing

    def _begin(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        try:
            if self._begun is None:
                self._file, self._is_on_disk = self._path.open("ab"), True
                if self._file.tell():
                    self._file.write(b"\n")  # the last line may be torn
            else:
                self._file = BytesIO()
            self._grown(snapshot())
            start = {"at": round(self._wall(), 2), "start": FORMAT}
            self._put(self._file, start)
        except Exception as error:  # the run is worth more than its timeline
            self._give_up(error)

    def _write(self, more: Mapping[str, object] | None = None) -> None:
        if self._file is None or self._snapshot is None:
            return
        try:
            if more is None and self._file.tell() > LONGEST_FILE:
                return
            line = self._line(self._snapshot())
            self._put(self._file, {**line, **(more or {})})
        except Exception as error:
            self._give_up(error)

    def _put(self, file: BinaryIO, line: Mapping[str, object]) -> None:
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if not self._is_on_disk and self._begun is not None and self._begun():
            kept, file = file, self._path.open("wb")
            self._file, self._is_on_disk = file, True
            kept.seek(0)
            file.write(kept.read())
        file.flush()

    def _give_up(self, error: Exception) -> None:
        why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else repr(error)
        _log.warning("%s is not kept any further (%s); the run goes on without it", self._path, why.lower())
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    # ---- what a line says

    def _line(self, snapshot: Snapshot) -> dict[str, Any]:
        line: dict[str, Any] = {"at": round(self._wall(), 2), **self._events}
        self._events.clear()
        grown = self._grown(snapshot)
        line |= {name: grown[name] for name in _COUNTS if name in grown}
        if snapshot.waiting_to_retry:
            line["parked"] = snapshot.waiting_to_retry
        line["pools"] = {name: self._pool(name, pool, grown) for name, pool in snapshot.pools.items()}
        return line

    def _pool(self, name: str, pool: PoolState, grown: dict[str, float]) -> dict[str, Any]:
        said: dict[str, Any] = {"concurrency": round(pool.concurrency)}
        if pool.breaker != "closed":
            said["breaker"] = pool.breaker
        if pool.queued:
            said["queued"] = pool.queued
        if pool.running:
            said["running"] = pool.running
        for what, names in (("held", pool.held_for), ("used", pool.resources)):
            if more := {str(one): grown[key] for one in names if (key := f"{what} {one} {name}") in grown}:
                said[what] = more
        if pool.resources:
            said["level"] = {one: round(state.level) for one, state in pool.resources.items()}
        for one, state in pool.resources.items():
            limit = (round(state.limit, 1), state.source, round(state.capacity, 1))
            if self._limits.get(f"{one} {name}") != limit:
                self._limits[f"{one} {name}"] = limit
                said.setdefault("limits", {})[one] = limit
        return said

    def _grown(self, snapshot: Snapshot) -> dict[str, float]:
        """By how much every count has grown since this was asked last."""
        now: dict[str, float] = {name: getattr(snapshot, name) for name in _COUNTS}
        for name, pool in snapshot.pools.items():
            now |= {f"held {why} {name}": seconds for why, seconds in pool.held_for.items()}
            now |= {f"used {one} {name}": state.used_in_all for one, state in pool.resources.items()}
        grown = {key: round(value - self._before.get(key, 0.0), 2) for key, value in now.items()}
        self._before = now
        return {key: value for key, value in grown.items() if value}
