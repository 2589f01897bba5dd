"""A results file as a journal: a line counts once it is on disk, and what is on disk is never lost.

Four parts share the work, and `ResultsFile` only connects them:

* `FileLock`: one process writes the file.
* `Replacement`: how other lines take the place of those in the file, when it is overwritten or rewritten.
* `AppendLog`: lines are appended in groups, each written and synced at once.
* `DiskReserve`: space for the answers in flight when the disk is full.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from claude_executor.bulk.results.append_log import AppendLog
from claude_executor.bulk.results.disk import DiskReserve, resolve_symlink, sync_directory
from claude_executor.bulk.results.lock import FileLock
from claude_executor.bulk.results.reader import ResultsReader
from claude_executor.bulk.results.recovery import repair
from claude_executor.bulk.results.replacement import Replacement


class ResultsFile(ResultsReader):
    """A results file that this process writes, and no other. Open it with `open`, then close it.

    ::

        with ResultsFile.open(path) as results:
            await results.add(line)

    Attributes:
        path: The results file; if `open` was given a symbolic link, the file that the link leads to.
    """

    def __init__(
        self, target: Replacement, log: AppendLog, reserve: DiskReserve, closing: ExitStack, *, lasting: bool
    ) -> None:
        """Connect parts that are open already; see `open`."""
        super().__init__(target.path, lasting=lasting)
        self.path = target.path
        self._target = target
        self._log = log
        self._reserve = reserve
        self._closing = closing
        self._group: asyncio.Future[None] | None = None
        self._on_full: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, path: Path, *, overwrite: bool = False) -> Self:
        """Lock a results file, repair what a crash left behind, and open it; create it if there is none.

        Args:
            path: The file. A pipe or a device is neither locked nor repaired, and cannot be read.
            overwrite: Begin with no results. The old file stays until a new answer is on disk.

        Raises:
            FileBusy: Another process writes the file.
            FileExistsError: Another file has the name of the staged replacement.
            NotResults: The file does not end as a results file does.
            OSError: It cannot be written.
        """
        path = resolve_symlink(path)
        is_new = not path.exists()
        lasting = is_new or path.is_file()
        target, reserve = Replacement(path), DiskReserve(path.parent)
        with ExitStack() as undo:  # in reverse order, at once if a step fails, else when the file is closed
            if lasting:
                undo.enter_context(FileLock(path))
                target.recover()
                is_new = not path.exists()
                undo.callback(target.settle)
                if is_new:
                    undo.callback(_delete_if_empty, path)
                elif overwrite:
                    target.stage()
                else:
                    repair(target.location)
            undo.callback(reserve.release)
            log = AppendLog(
                target.location, synced=lasting, on_group=target.note, make_room=reserve.make_room
            )
            undo.callback(log.close)
            if is_new:
                sync_directory(path.parent)
            return cls(target, log, reserve, undo.pop_all(), lasting=lasting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, close the file, and delete it if it is new and empty.

        Raises:
            OSError: A line could not be written. An error that was raised before is not repeated.
        """
        self._closing.close()

    @property
    def location(self) -> Path:
        """The file that holds the lines now: `path`, or the staged file until it takes its place."""
        return self._target.location

    @property
    def end(self) -> int:
        """Length in bytes, with the lines that are still to be written: the offset of the next line."""
        return self._log.length

    @property
    def untouched(self) -> bool:
        """Whether the file that is to be overwritten is as it was, because no answer has come yet."""
        return self._target.untouched

    @property
    def stuck(self) -> OSError | None:
        """Reason why the lines stay in the staged file, if they do; the next start tries again."""
        return self._target.stuck

    @property
    def begun(self) -> bool:
        """Whether any results are on disk that count at the next start."""
        return not self.untouched and self.location.stat().st_size > 0

    def keep_reserve(self, on_full: Callable[[], None]) -> None:
        """Hold disk space for the answers in flight when the disk is full.

        Lines that are added once the disk is full find room in it, and `flush` raises the error.

        Args:
            on_full: Called on the event loop when the disk is full.

        Raises:
            OSError: The disk does not have that space now.
        """
        if self._lasting:
            self._reserve.hold()
            self._on_full = on_full

    def add(self, line: bytes) -> asyncio.Future[None]:
        """Add a line.

        Returns:
            A future that is done when the line is on disk, or failed if it cannot be written.

        Raises:
            OSError: An earlier line could not be written.
        """
        group = self._log.add(line)
        if group is not self._group:
            self._group = group
            group.add_done_callback(self._on_group_done)
        return group

    async def backpressure(self) -> None:
        """Wait while the disk is too far behind."""
        await self._log.backpressure()

    async def flush(self) -> None:
        """Write everything that was added, and wait until it is on disk.

        Raises:
            OSError: A line could not be written, or the disk is full.
        """
        await self._log.flush()
        if self._reserve.full is not None:
            raise self._reserve.full

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace all lines by others, which may be read from the file itself.

        Raises:
            OSError: The new file could not be written. The old one is as it was.
        """
        self._target.rewrite(lines)
        self._log.reopen(self._target.location)

    def _on_group_done(self, group: asyncio.Future[None]) -> None:
        if self._reserve.full is not None and not group.cancelled() and group.exception() is None:
            self._on_full()


def _delete_if_empty(path: Path) -> None:
    if path.is_file() and path.stat().st_size == 0:
        path.unlink()
