"""Where a file really is, and that its name is there to stay."""

import os
from contextlib import suppress
from pathlib import Path


def followed(path: Path) -> Path:
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
