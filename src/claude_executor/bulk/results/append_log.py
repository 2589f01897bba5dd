"""A file that lines are appended to in groups: one write and one fsync for many lines.

A group is everything that was added within a tenth of a second, or a hundred lines. A thread writes it, so a
slow disk does not stop the event loop. Each line is answered with a future, which is done when the line's
group is on disk. The log knows nothing of what the lines say.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

GROUP_EVERY = 0.1
GROUP_LINES = 100
MOST_UNWRITTEN = 16_000_000
"""Bytes that may wait for a slow disk, or a slow reader, before `backpressure` holds new lines back."""


class AppendLog:
    """Appends lines to a file, in groups.

    The event loop calls `add`, `backpressure` and `flush`; groups are written in a thread. A lock keeps that
    thread apart from `reopen` and `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        synced: bool = True,
        on_group: Callable[[bytes], Path | None] = lambda _: None,
        make_room: Callable[[OSError], bool] = lambda _: False,
    ) -> None:
        """Open the file, which is created if it does not exist.

        Args:
            path: The file.
            synced: Whether a group counts only once it is synced. False for pipes and devices.
            on_group: Called with the text of each group that is on disk, in the writing thread, before its
                future is done. The file has moved if it returns a path: later groups are appended there.
            make_room: Called in the writing thread when a write fails. True makes the log try again.

        Raises:
            OSError: The file cannot be opened.
        """
        self._synced = synced
        self._on_group = on_group
        self._make_room = make_room
        self._lines: list[bytes] = []
        self._group: asyncio.Future[None] | None = None
        self._group_is_full = asyncio.Event()
        self._unsettled: list[asyncio.Future[None]] = []  # groups that a thread writes, or has written
        self._added = self._written = 0  # bytes; the event loop counts the one, the writing thread the other
        self._writer: asyncio.Task[None] | None = None
        self._writing = threading.RLock()  # reentrant: `on_group` may lead to `reopen`
        self._error: OSError | None = None
        self._file = _opened(path)
        self._length_before = os.fstat(self._file).st_size

    @property
    def length(self) -> int:
        """Length of the file in bytes, with the lines that are still to be written."""
        return self._length_before + self._added

    def add(self, line: bytes) -> asyncio.Future[None]:
        """Add a line.

        Returns:
            The future of the line's group: done when the group is on disk, or failed if it cannot be written.

        Raises:
            OSError: An earlier line could not be written.
        """
        if self._error is not None:
            raise self._error
        if self._group is None or self._group.cancelled():
            self._group = asyncio.get_running_loop().create_future()
        self._lines.append(line)
        self._added += len(line)
        if len(self._lines) >= GROUP_LINES:
            self._group_is_full.set()
        self._running_writer()
        return self._group

    async def backpressure(self) -> None:
        """Wait while the disk is too far behind."""
        while self._added - self._written > MOST_UNWRITTEN and (writer := self._running_writer()) is not None:
            await asyncio.wait([writer], timeout=GROUP_EVERY)

    async def flush(self) -> None:
        """Write everything that was added, and wait until it is on disk.

        Raises:
            OSError: A line could not be written.
        """
        while (writer := self._running_writer()) is not None:
            self._group_is_full.set()
            await asyncio.wait([writer])
        if self._error is not None:
            raise self._error

    def reopen(self, path: Path) -> None:
        """Append to another file from now on, or to the one that has taken this one's place.

        Raises:
            OSError: The file cannot be opened; lines still go where they went before.
        """
        with self._writing:
            before, self._file = self._file, _opened(path)
            os.close(before)
            self._length_before = os.fstat(self._file).st_size - self._written

    def close(self) -> None:
        """Write what is left, and close the file. A closed log stays closed.

        Raises:
            OSError: A line could not be written. An error that `add` or `flush` has raised is not repeated.
        """
        with self._writing:
            if self._file < 0:
                return
            try:
                if self._error is None:
                    self._write_lines()
            finally:
                os.close(self._file)
                self._file = -1

    # ---- on the event loop

    def _running_writer(self) -> asyncio.Task[None] | None:
        """Return the task that writes, if there is anything to write; a new one if the last was cancelled."""
        if self._writer is None or self._writer.done():
            if self._error is not None or (self._group is None and not self._unsettled):
                return None
            self._writer = asyncio.create_task(self._write_groups(), name="claude-executor results")
        return self._writer

    async def _write_groups(self) -> None:
        while self._group is not None or self._unsettled:
            with suppress(TimeoutError):
                async with asyncio.timeout(GROUP_EVERY):
                    await self._group_is_full.wait()
            self._group_is_full.clear()
            if self._group is not None:
                self._unsettled.append(self._group)
                self._group = None
            try:
                # If this is cancelled, the next writer settles the group.
                await asyncio.to_thread(self._write_one_group)
            except OSError as error:
                self._fail(error)
                break
            settled, self._unsettled = self._unsettled, []
            for group in settled:
                if not group.done():  # a caller that was cancelled has cancelled it
                    group.set_result(None)
            await asyncio.sleep(0)  # callers that waited for these groups may add more

    def _fail(self, error: OSError) -> None:
        for group in self._unsettled if self._group is None else [*self._unsettled, self._group]:
            if not group.done():
                group.set_exception(error)
                group.exception()  # nobody need be waiting for it

    # ---- in the writing thread

    def _write_one_group(self) -> None:
        with self._writing:
            self._write_lines()

    def _write_lines(self) -> None:
        """Write and sync the lines that were added. After an error nothing more is written."""
        if self._error is not None:
            raise self._error
        count = len(self._lines)  # the event loop may add more meanwhile
        if not count:
            return
        text = b"".join(self._lines[:count])
        try:
            self._write(text)
            del self._lines[:count]
            self._written += len(text)
            if (moved_to := self._on_group(text)) is not None:
                self.reopen(moved_to)
        except OSError as error:
            self._error = error
            raise

    def _write(self, text: bytes) -> None:
        """Write and sync. A group that could only be written in part is cut after its last whole line."""
        written = 0
        try:
            while written < len(text):
                try:
                    written += os.write(self._file, memoryview(text)[written:])
                except OSError as error:
                    if not self._make_room(error):
                        raise
            if self._synced:
                os.fsync(self._file)
        except OSError:
            if self._synced and (surplus := written - text.rfind(b"\n", 0, written) - 1):
                with suppress(OSError):
                    os.ftruncate(self._file, os.fstat(self._file).st_size - surplus)
            raise


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
