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
from claude_executor.bulk.results.recovery import Replacement

_READ_AT_ONCE = 1 << 20
_LOOKED_AT_ONCE = 1 << 16


class ResultsReader:
    """What there is to read of results.

    Attributes:
        offset: Where their lines are.
        end: How long that is.
    """

    def __init__(self, place: Path, *, lasting: bool, end: int = 0) -> None:
        """`lasting` is whether what is there can be read again, which needs a file."""
        self.offset = place
        self.end = end
        self._lasting = lasting

    @classmethod
    def open_readonly(cls, path: Path) -> "ResultsReader":
        """Those that the next start would find at `path`, if any: nothing is locked, repaired or replaced.

        Raises:
            FileExistsError: What is beside it is in the way of results that are begun anew.
            OSError: It cannot be looked at.
        """
        path = resolve_symlink(path)
        anew = Replacement(path)
        place = anew.path if anew.has_answer() else path
        lasting = place.is_file()
        return ResultsReader(place, lasting=lasting, end=place.stat().st_size if lasting else 0)

    def entries(self) -> Iterator[tuple[int, ResultEntry]]:
        """What its lines say, with the places where they begin; see `entries_in`."""
        return entries_in(self.offset) if self._lasting else iter(())

    def batches(self) -> "Iterator[tuple[list[str], array[int], list[ResultEntry]]]":
        """What its lines say, many at a time, for who reads them all; see `batches_in`."""
        return batches_in(self.offset) if self._lasting else iter(())

    def read(self, places: Iterable[int]) -> Iterator[bytes]:
        """The lines that begin at these places."""
        return lines_at(self.offset, places)

    def parsed(self, places: Iterable[int]) -> Iterator[dict[str, Any]]:
        """All that the answers say which begin at these places; see `values_at`."""
        return values_at(self.offset, places)

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """They are only looked at.

        Raises:
            UnsupportedOperation: Always.
        """
        del lines
        raise UnsupportedOperation(f"{self.offset} is only looked at")


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


def lines_at(path: Path, places: Iterable[int]) -> Iterator[bytes]:
    """The lines that begin at these places."""
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            yield file.readline()


def values_at(path: Path, places: Iterable[int]) -> Iterator[dict[str, Any]]:
    """All that the lines say which begin at these places, and are answers.

    Raises:
        NotResults: One is damaged where a glance at it has not shown it.
    """
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            try:
                value = json_of(file.readline())
                value["result"]["message"].keys()
            except (ValueError, TypeError, LookupError, AttributeError):
                why = "it is damaged: there is no answer in it that can be read"
                raise NotResults(path, _number_of(path, place), why) from None
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


def _number_of(path: Path, place: int) -> int:
    with path.open("rb") as file:
        number = 1
        while file.tell() < place:
            file.readline()
            number += 1
    return number
