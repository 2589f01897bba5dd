"""A results file as a journal: a line counts when it is on disk, and what is on disk is never lost.

Lines are added to the end, in groups: one `write` and one `fsync` for all that came within a tenth of a
second, or for a hundred of them, in a thread. Whoever adds a line is told when its group is on disk.

What a crash leaves behind is repaired when the file is opened again: half a line at its end is cut off. Lines
are taken out by writing the others to a new file, which takes the place of the old one in a single step. What
is begun anew takes the place of the old one with its first answer; see `Replacement`.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Self

from claude_executor.bulk.results.disk import FULL, DiskReserve, resolve_symlink, sync_directory
from claude_executor.bulk.results.line import has_answer
from claude_executor.bulk.results.lock import FileLock
from claude_executor.bulk.results.reader import ResultsReader
from claude_executor.bulk.results.recovery import Replacement, repair

GROUP_EVERY = 0.1
GROUP_LINES = 100
MOST_UNWRITTEN = 16_000_000
"""Bytes that may wait for a slow disk before nothing more is taken in."""

_READ_AT_ONCE = 1 << 20


class ResultsFile(ResultsReader):
    """A results file that this process writes; nobody else does. Close it, or use it as ``with …``.

    Attributes:
        path: Where it is; of a symbolic link, where that leads.
        place: Where its lines are at this moment: there, or beside it until they take its place.
        stuck: Why they could not take it and go on beside it, if so; the next start tries again.
        end: How long it is, with what is still to be written.
        untouched: Whether what was to be overwritten is still there, since there is no answer yet.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Open it, repaired, or begin it; with `overwrite`, anew: the old one goes when an answer is on disk.

        Raises:
            Busy: Another process writes it.
            NotResults: Its end is not that of a results file.
            OSError: It cannot be written.
        """
        self.path = path = resolve_symlink(path)
        # What is no file (``/dev/null``, a pipe) can be neither read again nor locked.
        super().__init__(path, lasting=path.is_file() or not path.exists())
        self._lock = FileLock(path) if self._lasting else None
        self._ours = not path.exists()
        self._file = -1
        self._lines: list[bytes] = []
        self._group: asyncio.Future[None] | None = None
        self._enough = asyncio.Event()
        self._untold: list[asyncio.Future[None]] = []
        self._added = self._written = 0  # bytes; the one by the loop, the other by what writes
        self._writer: asyncio.Task[None] | None = None
        self._one_at_a_time = threading.Lock()
        self._broken: OSError | None = None
        self._anew = Replacement(path)
        self.stuck: OSError | None = None
        self.untouched = False
        self._spare: DiskReserve | None = None
        self._full: OSError | None = None
        self._told: Callable[[], None] = lambda: None
        try:
            if self._lasting:
                self._finish_beginning()
                if overwrite and not self._ours:
                    self._begin_anew()
            self._open(os.O_TRUNC if overwrite else 0)
            if self.untouched:
                self.offset.chmod(path.stat().st_mode & 0o7777)
            if self._ours:
                sync_directory(path.parent)
            if self._lasting:
                self.end = repair(self._file, self.offset)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def begun(self) -> bool:
        """Whether anything of them is on disk, where they belong or as near as they come."""
        return not self.untouched and self.offset.stat().st_size > 0

    def close(self) -> None:
        """Write what is not yet written, close it, and take it away if it is new and empty.

        Raises:
            OSError: It cannot be written. An error that was told before is not told again.
        """
        with self._one_at_a_time:
            try:
                if self._file >= 0:
                    self._close_file()
            finally:
                if self._spare is not None:
                    self._spare.release()
                if self._lock is not None:
                    self._lock.release()

    def _close_file(self) -> None:
        try:
            if self._broken is None:
                self._write_lines()
        finally:
            empty = os.fstat(self._file).st_size == 0
            os.close(self._file)
            self._file = -1
            if self.untouched:
                self._finish_beginning()
            elif self._ours and empty:
                self.path.unlink(missing_ok=True)

    def keep_spare(self, told: Callable[[], None]) -> None:
        """Keep room for what will be in flight when the disk is full; then `told` is called, on the loop.

        What is added from then on finds room, and `synced` raises that error.

        Raises:
            OSError: There is no room now.
        """
        if self._lasting:
            self._spare, self._told = DiskReserve(self.path.parent), told

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Let it hold these lines instead, which may come out of it: all of them, or it is as it was.

        Raises:
            OSError: The new file could not be written; the old one is as it was.
        """
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            with fresh.open("wb", buffering=_READ_AT_ONCE) as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            fresh.chmod(self.path.stat().st_mode & 0o7777)
            fresh.replace(self._anew.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        if self.offset == self.path:
            self._take_its_place()
        else:
            sync_directory(self.path.parent)
            self._open_again()
        self.end = os.fstat(self._file).st_size

    # ---- what is added to it

    def add(self, line: bytes) -> asyncio.Future[None]:
        """Add a line. What is returned is done when the line is on disk, or has the error if it cannot be.

        Raises:
            OSError: An earlier one could not be written.
        """
        if self._broken is not None:
            raise self._broken
        if self._group is None:
            self._group = asyncio.get_running_loop().create_future()
        self._lines.append(line)
        self._added += len(line)
        self.end += len(line)
        if len(self._lines) >= GROUP_LINES:
            self._enough.set()
        self._at_work()
        return self._group

    def _at_work(self) -> asyncio.Task[None] | None:
        """What writes, if there is anything to write; a new one if all tasks were cancelled."""
        if self._writer is None or self._writer.done():
            if self._broken is not None or (self._group is None and not self._untold):
                return None
            self._writer = asyncio.create_task(self._write_groups(), name="claude-executor results")
        return self._writer

    async def backpressure(self) -> None:
        """Wait while the disk is too far behind."""
        while self._added - self._written > MOST_UNWRITTEN and (writer := self._at_work()) is not None:
            await asyncio.wait([writer], timeout=GROUP_EVERY)

    async def flush(self) -> None:
        """Wait until all that was added is on disk, and do not wait for more to come.

        Raises:
            OSError: It cannot be written.
        """
        while (writer := self._at_work()) is not None:
            self._enough.set()
            await asyncio.wait([writer])
        if (error := self._broken or self._full) is not None:
            raise error

    async def _write_groups(self) -> None:
        while self._group is not None or self._untold:
            with suppress(TimeoutError):
                async with asyncio.timeout(GROUP_EVERY):
                    await self._enough.wait()
            self._enough.clear()
            if self._group is not None:
                self._untold.append(self._group)
                self._group = None
            try:
                await asyncio.to_thread(self._put)  # if this is cancelled, the next writer tells of it
            except OSError as error:
                self._break(error)
                break
            told, self._untold = self._untold, []
            for group in told:
                group.set_result(None)
            if self._full is not None:
                self._told()
            await asyncio.sleep(0)  # whoever is told may add more

    def _break(self, error: OSError) -> None:
        for group in self._untold if self._group is None else [*self._untold, self._group]:
            group.set_exception(error)
            group.exception()  # nobody need be listening

    def _put(self) -> None:
        with self._one_at_a_time:
            self._write_lines()

    def _write_lines(self) -> None:
        """Write and sync what was added; only then is it done with. After an error nothing is written."""
        if self._broken is not None:
            raise self._broken
        count = len(self._lines)  # more may be added meanwhile
        if not count:
            return
        text = b"".join(self._lines[:count])
        try:
            self._write(text)
        except OSError as error:
            self._broken = error
            raise
        del self._lines[:count]
        self._written += len(text)
        if self.untouched and has_answer(BytesIO(text)):
            self._take_its_place()

    def _write(self, text: bytes) -> None:
        """Write and sync. What could only be written in part ends with a whole line."""
        written = 0
        try:
            while written < len(text):
                try:
                    written += os.write(self._file, memoryview(text)[written:])
                except OSError as error:
                    if error.errno not in FULL or self._spare is None or not self._spare.release():
                        raise
                    self._full = error
            if self._lasting:
                os.fsync(self._file)
        except OSError:
            if self._lasting and (surplus := written - text.rfind(b"\n", 0, written) - 1):
                with suppress(OSError):
                    os.ftruncate(self._file, os.fstat(self._file).st_size - surplus)
            raise

    # ---- opening

    def _finish_beginning(self) -> None:
        """Let what was begun anew, be it by one that was killed, take its place, or go without an answer."""
        if self._anew.is_wanted():
            self._take_its_place()

    def _begin_anew(self) -> None:
        if self.stuck is not None:  # there are answers where the new ones would have to go
            raise self.stuck
        os.close(os.open(self.path, os.O_WRONLY))  # who may not write it may not replace it either
        self.untouched, self.offset = True, self._anew.path

    def _take_its_place(self) -> None:
        self.untouched = False
        try:
            self._anew.take_its_place()
        except OSError as error:
            self.stuck, self.offset = error, self._anew.path
        else:
            self.offset = self.path
        if self._file >= 0:
            self._open_again()

    def _open_again(self) -> None:
        before = self._file
        self._open()
        os.close(before)

    def _open(self, flags: int = 0) -> None:
        flags |= os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._file = os.open(self.offset, flags, 0o666)
