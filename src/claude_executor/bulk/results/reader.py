"""Reads results files: what a start must know of all lines, and all that single lines say.

A line that is damaged is an error that names it, whoever comes upon it: it may be of an answer that was paid
for. Half a line at the end is passed over: the next start cuts it off, or somebody is just writing it.
"""

from array import array
from collections.abc import Iterable, Iterator
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

from claude_executor.bulk.results.disk import resolve_symlink
from claude_executor.bulk.results.line import (
    NotAResult,
    NotResults,
    ResultEntry,
    answers_in,
    begins_like_a_result,
    json_of,
    read_entry,
)
from claude_executor.bulk.results.replacement import Replacement

_READ_AT_ONCE = 1 << 20
_LOOKED_AT_ONCE = 1 << 16


class ResultsReader:
    """Reads a results file."""

    def __init__(self, path: Path, *, lasting: bool, end: int = 0) -> None:
        """Nothing is read yet.

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

    def parsed(self, offsets: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Parse the answers at these offsets; see `values_at`."""
        return values_at(self.location, offsets)

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Refuse to rewrite a file that is only read.

        Raises:
            UnsupportedOperation: Always.
        """
        del lines
        raise UnsupportedOperation(f"{self.location} is open for reading only")


def entries_in(path: Path) -> Iterator[tuple[int, ResultEntry]]:
    """What the lines of a file say, with the places where they begin.

    Raises:
        NotResults: A line is no result.
    """
    at = 0
    with path.open("rb", buffering=_READ_AT_ONCE) as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and _is_torn(line, number):
                return
            try:
                yield at, read_entry(line)
            except NotAResult as error:
                raise NotResults(path, number, str(error)) from None
            at += len(line)


def batches_in(path: Path) -> "Iterator[tuple[list[str], array[int], list[ResultEntry]]]":
    """What the lines of a file say, many at a time, for who reads them all.

    Either they are all answers: their ids and the hashes of what was asked. Or there are none of these, but
    their entries.

    Raises:
        NotResults: A line is no result.
    """
    number = 0
    with path.open("rb", buffering=_READ_AT_ONCE) as file:
        while block := file.read(_LOOKED_AT_ONCE):
            block += file.readline()
            last = block[block.rfind(b"\n") + 1 :]
            if last and _is_torn(last, number + block.count(b"\n") + 1):
                block = block.removesuffix(last)
                if not block:
                    return
            lines, entries = block.removesuffix(b"\n").split(b"\n"), list[ResultEntry]()
            answers = answers_in(block, lines)
            if answers is None:
                try:
                    entries.extend(map(read_entry, lines))
                except NotAResult as error:
                    raise NotResults(path, number + len(entries) + 1, str(error)) from None
            ids, hashes = answers or ([], array("Q"))
            yield ids, hashes, entries
            number += len(lines)


def lines_at(path: Path, offsets: Iterable[int]) -> Iterator[bytes]:
    """The lines that begin at these places."""
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            yield file.readline()


def values_at(path: Path, offsets: Iterable[int]) -> Iterator[dict[str, Any]]:
    """All that the lines say which begin at these places, and are answers.

    Raises:
        NotResults: One is damaged where a glance at it has not shown it.
    """
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            try:
                value = json_of(file.readline())
                value["result"]["message"].keys()
            except (ValueError, TypeError, LookupError, AttributeError):
                why = "it is damaged: there is no answer in it that can be read"
                raise NotResults(path, _number_of(path, offset), why) from None
            yield value


def _is_torn(line: bytes, number: int) -> bool:
    """Whether a line without its end is not whole; what begins unlike results is no torn line of them."""
    if number == 1 and not begins_like_a_result(line):
        return False
    try:
        json_of(line)
    except ValueError:
        return True
    return False


def _number_of(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        number = 1
        while file.tell() < offset:
            file.readline()
            number += 1
    return number
