"""One writer to a results file: a lock file beside it, which names the process that holds the lock.

The kernel keeps the lock (`flock`), so a process that is killed releases it; a lock file that is left behind
means nothing. Windows has no `flock`, and there is no lock.
"""

import os
import sys
from pathlib import Path
from typing import Self

if sys.platform != "win32":
    import fcntl


class FileBusy(Exception):
    """Another process is writing the file.

    Attributes:
        path: The file.
        pid: The process, if the lock file names it.
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"{path} is being written by {who}; wait for it to finish, or choose another output with -o"
        )
        self.path = path
        self.pid = pid


class FileLock:
    """A lock on a file, held from its construction until it is released."""

    def __init__(self, path: Path) -> None:
        """Lock a file.

        Args:
            path: The file, which need not exist.

        Raises:
            FileBusy: Another process holds the lock.
            OSError: The lock file cannot be created.
        """
        self._beside = path.with_name(path.name + ".lock")
        self._file = -1
        if sys.platform != "win32":
            self._file = self._take(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock, and delete its file."""
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                self._beside.unlink(missing_ok=True)
            finally:
                os.close(file)

    def _take(self, path: Path) -> int:
        while True:
            file = os.open(self._beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still_at(self._beside, file):
                    os.truncate(file, 0)
                    os.pwrite(file, b"%d\n" % os.getpid(), 0)
                    return file
            except BlockingIOError:
                holder = os.pread(file, 20, 0).strip()
                os.close(file)
                raise FileBusy(path, int(holder) if holder.isdigit() else None) from None
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # its holder has just released it, and deleted the file with that name


def _is_still_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
