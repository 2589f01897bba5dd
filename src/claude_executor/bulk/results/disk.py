"""Disk space held in reserve so that answers already paid for can still be written on a full disk.

Without it, the answers in flight when the disk fills up would be lost, and so would those that the next start
requests before it finds out.
"""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

SIZE = 4 << 20
"""Bytes: a thousand answers of a page each, five times what is usually in flight."""
_DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskReserve:
    """Space on a disk that is held until it is released, or until the process ends, however it ends.

    Attributes:
        full: The error that used the reserve up, if the disk was full.
    """

    def __init__(self, directory: Path) -> None:
        """Make a reserve that holds no space yet.

        Args:
            directory: A directory on the disk.
        """
        self.full: OSError | None = None
        self._directory = directory
        self._file: IO[bytes] | None = None

    def hold(self) -> None:
        """Hold the space; none where the system cannot allocate it.

        Raises:
            OSError: The disk does not have that space.
        """
        try:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - it is kept
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, SIZE)
        except OSError as error:
            self.release()
            if error.errno in _DISK_IS_FULL:
                why = f"{error.strerror} ({SIZE >> 20} MB must be free for what is in flight)"
                raise OSError(error.errno, why) from error  # the file has no name that could be shown

    def release(self) -> bool:
        """Give the space back. Returns whether any was held."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
        return file is not None

    def make_room(self, error: OSError) -> bool:
        """Release the space if `error` says that the disk is full. Returns whether that made room."""
        if error.errno not in _DISK_IS_FULL or not self.release():
            return False
        self.full = error
        return True


def resolve_symlink(path: Path) -> Path:
    """Return the file itself, if the path is that of a symbolic link.

    The lock, the timeline and the staged replacement stand beside the file, whichever name it was opened by.
    """
    special = path.exists() and not path.is_file()  # such as /dev/stdout, which leads to no name
    return Path(os.path.realpath(path)) if path.is_symlink() and not special else path


def sync_directory(path: Path) -> None:
    """Make the names that were created or moved in a directory durable, where directories can be synced."""
    with suppress(OSError):
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
