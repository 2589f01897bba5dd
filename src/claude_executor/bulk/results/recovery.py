"""A file in which results are begun anew, beside the old one, whose place it takes with its first answer.

Until then the old file is as it was. If the process is killed in between, the next start sees to it: what has
an answer takes the old file's place, what has none goes. A file of that name that is not ours is left alone.
"""

import errno
import os
import shutil
from pathlib import Path

from claude_executor.bulk.results.disk import sync_directory
from claude_executor.bulk.results.line import (
    NotAResult,
    NotResults,
    begins_like_a_result,
    has_answer,
    json_of,
    read_entry,
)
from claude_executor.bulk.results.lock import FileLock

_COPIED_AT_ONCE = 1 << 20


class Replacement:
    """The file beside a results file.

    Attributes:
        path: Where it is, if there is one.
    """

    def __init__(self, old: Path) -> None:
        """`old` is the file whose place it is to take."""
        self.path = old.with_name(old.name + ".anew")
        self._old = old

    def is_wanted(self) -> bool:
        """Whether there is one, and it has an answer; one that has none goes.

        Raises:
            Busy: Another process writes it, as results of its own.
            FileExistsError: It holds something else than results.
            OSError: It cannot be read, or not be taken away.
        """
        if not self.path.is_file():
            return False
        lock = FileLock(self.path)
        try:
            wanted = self.has_answer()
            if not wanted:
                self.path.unlink()
            return wanted
        finally:
            lock.release()

    def has_answer(self) -> bool:
        """Whether there is one, and it has an answer; it is only looked at.

        Raises:
            FileExistsError: It holds something else than results.
            OSError: It cannot be read.
        """
        if not self.path.is_file():
            return False
        with self.path.open("rb") as lines:
            if not _is_ours(lines.readline()):
                what_to_do = "it is in the way, and no results file; move it, or name another with -o"
                raise FileExistsError(errno.EEXIST, what_to_do, str(self.path))
            lines.seek(0)
            return has_answer(lines)

    def take_its_place(self) -> None:
        """Let it be the old file, in one step where that can be; by copying where it cannot be renamed.

        That is so where the old one is mounted by itself, or is somebody else's in a directory like ``/tmp``.
        A copy that is broken off is made again at the next start, for this file stays until it is whole.

        Raises:
            OSError: It can be neither; this file is as it was.
        """
        try:
            self.path.replace(self._old)
        except OSError:
            self._copy()
            self.path.unlink()
        sync_directory(self._old.parent)

    def _copy(self) -> None:
        with self.path.open("rb") as new, self._old.open("r+b") as old:
            shutil.copyfileobj(new, old, _COPIED_AT_ONCE)
            old.truncate()
            old.flush()
            os.fsync(old.fileno())


def _is_ours(first: bytes) -> bool:
    """Whether a file that begins with this line is one of results; the line may be torn, or there is none."""
    if not first.endswith(b"\n"):
        return begins_like_a_result(first)
    try:
        read_entry(first)
    except NotAResult:
        return False
    return True


_READ_AT_ONCE = 1 << 20


def repair(file: int, path: Path) -> int:
    """Repair the file at `path`, which is open to be written as `file`; how long it is then.

    Raises:
        NotResults: It does not end with a whole line, and does not begin like results.
        OSError: It cannot be read or written.
    """
    size = os.fstat(file).st_size
    with path.open("rb") as lines:
        first = lines.readline()
        tail, start = b"", size
        while start > 0 and b"\n" not in tail:
            step = min(start, _READ_AT_ONCE)
            start -= step
            lines.seek(start)
            tail = lines.read(step) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return size
    if not begins_like_a_result(first):
        raise NotResults(path, 1, "it is not of the form of a result")
    try:
        json_of(torn)
    except ValueError:
        os.ftruncate(file, size - len(torn))
        return size - len(torn)
    os.write(file, b"\n")  # whole but for its end
    return size + 1
