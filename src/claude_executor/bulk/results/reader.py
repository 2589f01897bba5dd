"""Reads a results file: all lines at a glance, or single ones in full."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import TYPE_CHECKING

from claude_executor.bulk.results.disk import resolve_symlink
from claude_executor.bulk.results.line import NotAResult, NotResults, ResultEntry, ResultLine
from claude_executor.bulk.results.replacement import Replacement
from claude_executor.bulk.results.scan import batches_in, entries_in

if TYPE_CHECKING:
    from array import array


class ResultsReader:
    """Reads a results file."""

    def __init__(self, path: Path, *, lasting: bool, end: int = 0) -> None:
        """Make a reader; nothing is read yet.

        Args:
            path: Where the lines are.
            lasting: Whether they can be read again, which needs a file.
            end: Length of the file in bytes.
        """
        self._location = path
        self._end = end
        self._lasting = lasting

    @classmethod
    def open_readonly(cls, path: Path) -> "ResultsReader":
        """Read the results that the next start would find. Nothing is locked, repaired or replaced.

        Raises:
            FileExistsError: Another file has the name of the staged replacement.
            OSError: A file cannot be read.
        """
        path = resolve_symlink(path)
        replacement = Replacement(path)
        location = replacement.staged if replacement.has_answer() else path
        lasting = location.is_file()
        return ResultsReader(location, lasting=lasting, end=location.stat().st_size if lasting else 0)

    @property
    def location(self) -> Path:
        """The file that holds the lines."""
        return self._location

    @property
    def end(self) -> int:
        """Length of that file in bytes."""
        return self._end

    def entries(self) -> Iterator[tuple[int, ResultEntry]]:
        """Iterate over the lines, each with its offset; see `entries_in`."""
        return entries_in(self.location) if self._lasting else iter(())

    def batches(self) -> "Iterator[tuple[list[str], array[int], list[ResultEntry]]]":
        """Iterate over the lines, many at a time; see `batches_in`."""
        return batches_in(self.location) if self._lasting else iter(())

    def read(self, offsets: Iterable[int]) -> Iterator[bytes]:
        """Read the lines at these offsets."""
        return lines_at(self.location, offsets)

    def parsed(self, offsets: Iterable[int]) -> Iterator[ResultLine]:
        """Parse the answers at these offsets; see `answers_at`."""
        return answers_at(self.location, offsets)

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Refuse to rewrite a file that is only read.

        Raises:
            UnsupportedOperation: Always.
        """
        del lines
        raise UnsupportedOperation(f"{self.location} is open for reading only")


def lines_at(path: Path, offsets: Iterable[int]) -> Iterator[bytes]:
    """Read the lines at these offsets."""
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            yield file.readline()


def answers_at(path: Path, offsets: Iterable[int]) -> Iterator[ResultLine]:
    """Parse the answers at these offsets.

    Raises:
        NotResults: A line is damaged where a glance has not shown it.
    """
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            line = None
            with suppress(NotAResult):
                line = ResultLine.parse(file.readline())
            if line is None or line.message is None:
                raise NotResults(path, _number_of(path, offset), "it is damaged: it holds no answer")
            yield line


def _number_of(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        number = 1
        while file.tell() < offset:
            file.readline()
            number += 1
    return number
