"""Room on a disk, kept for what is paid for and not yet written when the disk is full.

Without it, what is in flight at that moment is lost, and so is what the next start sends before it finds out.
"""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

SIZE = 4 << 20
"""Bytes: a thousand answers of a page each, five times what is usually in flight."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskReserve:
    """Room that is kept until it is given back, or the process ends, however it does."""

    def __init__(self, directory: Path) -> None:
        """Keep room on the disk of `directory`; none where the system does not know how.

        Raises:
            OSError: There is none left.
        """
        self._file: IO[bytes] | None = None
        try:
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it is kept
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, SIZE)
        except OSError as error:
            self.release()
            if error.errno in FULL:
                why = f"{error.strerror} ({SIZE >> 20} MB must be free for what is in flight)"
                raise OSError(error.errno, why) from error  # it is not about the file that has no name

    def release(self) -> bool:
        """Give it back, if it still is kept; whether it was."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
        return file is not None


def resolve_symlink(path: Path) -> Path:
    """The file itself, where the path is that of a symbolic link.

    Its lock, its timeline and the file that takes its place stand beside the file, whatever it is called by.
    """
    special = path.exists() and not path.is_file()  # such as /dev/stdout, which leads to no name
    return Path(os.path.realpath(path)) if path.is_symlink() and not special else path


def sync_directory(path: Path) -> None:
    """Make a name that was made or moved last, where directories can be synced."""
    with suppress(OSError):
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
