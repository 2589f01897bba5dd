"""One writer to a results file: a lock beside it that names the process which holds it.

The lock is the kernel's (`flock`), so that of a process which was killed is free again; the file of a lock
that is left behind says nothing. Where there is no `flock`, on Windows, there is no lock.
"""

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileBusy(Exception):
    """Another process is writing the file.

    Attributes:
        path: The file.
        pid: That process, if it says so.
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{path} is being written by {who}; wait for it, or name another file with -o")
        self.path = path
        self.pid = pid


class FileLock:
    """Held from the beginning until it is released."""

    def __init__(self, path: Path) -> None:
        """Lock the file at `path`, which need not exist.

        Raises:
            Busy: Somebody else has locked it.
            OSError: There can be no file beside it.
        """
        self._beside = path.with_name(path.name + ".lock")
        self._file = -1
        if sys.platform != "win32":
            self._file = self._take(path)

    def release(self) -> None:
        """Give it back, and take its file away."""
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
                said = os.pread(file, 20, 0).strip()
                os.close(file)
                raise FileBusy(path, int(said) if said.isdigit() else None) from None
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # its holder has just released it, and with it went the name


def _is_still_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
