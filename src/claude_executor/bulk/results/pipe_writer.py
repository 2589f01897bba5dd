"""Writes lines to a reader that consumes them as they come, such as another program behind a pipe.

A thread writes them, so a slow reader blocks neither the event loop nor signals. The thread is a daemon: a
reader that does not read at all cannot keep the process from ending.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from claude_executor.bulk.results.append_log import MOST_UNWRITTEN

_Line = tuple[bytes, "asyncio.Future[None]"]
_END = None


class PipeWriter:
    """Passes lines to a function in a thread of its own.

    Attributes:
        end: Always 0: a line that is written cannot be read back, so it has no offset.
    """

    end = 0

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """No thread is started before the first line.

        Args:
            write: Called in the thread, with one or more lines. It must write all of them, and may block.
        """
        self._write = write
        self._lines: SimpleQueue[_Line | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unwritten = 0
        self._moved = asyncio.Event()
        self._broken: OSError | None = None

    def add(self, line: bytes) -> "asyncio.Future[None]":
        """Add a line.

        Returns:
            A future that is done when the line is written, or failed if it cannot be.

        Raises:
            OSError: An earlier line could not be written.
        """
        if self._broken is not None:
            raise self._broken
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(loop,), name="claude-executor outlet", daemon=True
            )
            self._thread.start()
        done: asyncio.Future[None] = loop.create_future()
        self._unwritten += len(line)
        self._lines.put((line, done))
        return done

    async def backpressure(self) -> None:
        """Wait while the reader is too far behind."""
        while self._unwritten > MOST_UNWRITTEN and self._broken is None:
            await self._wait_progress()

    async def flush(self) -> None:
        """Wait until everything that was added is written.

        Raises:
            OSError: A line could not be written.
        """
        while self._unwritten and self._broken is None:
            await self._wait_progress()
        if self._thread is not None:
            self._lines.put(_END)
            self._thread = None
        if self._broken is not None:
            raise self._broken

    async def _wait_progress(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        more, error = True, None
        while more and error is None:
            taken = [self._lines.get()]
            while not self._lines.empty():
                taken.append(self._lines.get())
            more = _END not in taken
            lines = [line for line in taken if line is not None]
            try:
                self._write(b"".join(line for line, _ in lines))
            except OSError as failure:
                error = failure
            if lines and not loop.is_closed():
                loop.call_soon_threadsafe(self._written, lines, error)

    def _written(self, lines: list[_Line], error: OSError | None) -> None:
        self._broken = self._broken or error
        for line, done in lines:
            self._unwritten -= len(line)
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()  # nobody need be waiting for it
        self._moved.set()
