"""Staged replacement of a results file by new lines, without losing an answer on the way.

Lines that are to replace the old ones are staged: written to a file beside it. The staged file takes the old
one's place in a single step, and only once it holds an answer. Until then the old file is as it was.

A process that is killed in between leaves the staged file behind. The next start settles it: a staged file
with an answer takes the old one's place, one without is deleted. A file of that name that holds something
else than results is left alone.
"""

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from claude_executor.bulk.results.disk import sync_directory
from claude_executor.bulk.results.line import NotAResult, ResultLine, begins_like_a_result
from claude_executor.bulk.results.lock import FileLock

STAGED = ".staged"
"""Suffix of the file beside the results in which their replacement is staged."""
_REWRITTEN = ".new"
_COPIED_AT_ONCE = _WRITTEN_AT_ONCE = 1 << 20


class Replacement:
    """Location of the lines of a results file, and their replacement by others.

    Attributes:
        path: The results file.
        staged: The file beside it, whether or not it exists.
        location: The file that holds the lines now: `path`, or `staged`.
        untouched: Whether the old lines are still in place, because the new ones hold no answer yet.
        stuck: Why the staged file could not take the old one's place, if it could not. Lines stay in the
            staged file then, and the next start tries again.
    """

    def __init__(self, path: Path) -> None:
        """Make a replacement; nothing is read or written yet.

        Args:
            path: The results file, which need not exist.
        """
        self.path = self.location = path
        self.staged = path.with_name(path.name + STAGED)
        self.untouched = False
        self.stuck: OSError | None = None

    def has_answer(self) -> bool:
        """Whether a staged file exists and holds an answer. Nothing is changed.

        Raises:
            FileExistsError: The file of that name holds something else than results.
            OSError: It cannot be read.
        """
        if not self.staged.is_file():
            return False
        with self.staged.open("rb") as lines:
            if not _begins_with_a_result(lines.readline()):
                what_to_do = (
                    "it is in the way, and is not a results file; move it, or choose another output with -o"
                )
                raise FileExistsError(errno.EEXIST, what_to_do, str(self.staged))
            lines.seek(0)
            return _has_answer(lines)

    def recover(self) -> None:
        """Settle a staged file: it takes the old one's place if it holds an answer, and is deleted if not.

        Raises:
            FileBusy: Another process writes it, as results of its own.
            FileExistsError: The file of that name holds something else than results.
            OSError: It can be neither read nor deleted.
        """
        if not self.staged.is_file():
            return
        with FileLock(self.staged):
            is_answered = self.has_answer()
            if not is_answered:
                self.staged.unlink()
        if is_answered:
            self._replace()

    def stage(self) -> None:
        """Begin a replacement: lines go to the staged file until it holds an answer.

        Raises:
            OSError: The old file may not be written; or a staged file with answers could not take its place,
                and the new lines would have to go where those are.
        """
        if self.stuck is not None:
            raise self.stuck
        os.close(os.open(self.path, os.O_WRONLY))  # a file that may not be written may not be replaced either
        self.location, self.untouched = self.staged, True
        self.staged.touch()
        self.staged.chmod(self.path.stat().st_mode & 0o7777)

    def note(self, text: bytes) -> Path | None:
        """Take note of lines that are on disk at `location`: the first answer replaces the old file.

        Returns:
            Where the lines are now, if they have moved.
        """
        if not (self.untouched and _has_answer(BytesIO(text))):
            return None
        self._replace()
        return self.location

    def settle(self) -> None:
        """Settle the staged file when nothing more is written, if it has not taken the old one's place.

        Raises:
            OSError: It can be neither read nor deleted.
        """
        if self.untouched:
            self.recover()

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace the lines by others, which may be read from the file itself.

        Raises:
            OSError: The new file could not be written. The old one is as it was.
        """
        rewritten = self.path.with_name(self.path.name + _REWRITTEN)
        try:
            with rewritten.open("wb", buffering=_WRITTEN_AT_ONCE) as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            rewritten.chmod(self.path.stat().st_mode & 0o7777)
            rewritten.replace(self.staged)
        except BaseException:
            rewritten.unlink(missing_ok=True)
            raise
        if self.location == self.path:
            self._replace()
        else:
            sync_directory(self.path.parent)

    def take_place(self) -> None:
        """Put the staged file in the old one's place: in one step, or by copying where that is impossible.

        A file cannot be renamed over one that is a mount point, or over another user's in a directory such as
        ``/tmp``. A copy that is interrupted is repeated at the next start: the staged file stays until the
        copy is complete.

        Raises:
            OSError: Neither is possible. The staged file is as it was.
        """
        try:
            self.staged.replace(self.path)
        except OSError:
            self._copy()
            self.staged.unlink()
        sync_directory(self.path.parent)

    def _replace(self) -> None:
        self.untouched = False
        try:
            self.take_place()
        except OSError as error:
            self.stuck, self.location = error, self.staged
        else:
            self.location = self.path

    def _copy(self) -> None:
        with self.staged.open("rb") as new, self.path.open("r+b") as old:
            shutil.copyfileobj(new, old, _COPIED_AT_ONCE)
            old.truncate()
            old.flush()
            os.fsync(old.fileno())


def _has_answer(lines: Iterable[bytes]) -> bool:
    """Whether any of these lines, the last of which may be torn, is an answer."""
    for line in lines:
        with suppress(NotAResult):
            # A last line that lacks only its line end counts, which a glance cannot tell from a torn one.
            entry = ResultLine.glance(line) if line.endswith(b"\n") else ResultLine.parse(line).entry()
            if entry.answered:
                return True
    return False


def _begins_with_a_result(first: bytes) -> bool:
    """Whether the first line of a file is a result. It may be torn, or empty."""
    if not first.endswith(b"\n"):
        return begins_like_a_result(first)
    try:
        ResultLine.glance(first)
    except NotAResult:
        return False
    return True
