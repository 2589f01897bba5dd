"""Reads results files: what a start must know of all lines, and all that single lines say.

A line that is damaged is an error that names it, whoever comes upon it: it may be of an answer that was paid
for.
"""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from claude_executor.bulk.results import Entry, NotAResult, NotResults, answers_in, json_of, read_entry

_READ_AT_ONCE = 1 << 20
_LOOKED_AT_ONCE = 1 << 16


def entries_in(path: Path) -> Iterator[tuple[int, Entry]]:
    """What the lines of a file say, with the places where they begin.

    Raises:
        NotResults: A line is no result.
    """
    at = 0
    with path.open("rb", buffering=_READ_AT_ONCE) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield at, read_entry(line)
            except NotAResult as error:
                raise NotResults(path, number, str(error)) from None
            at += len(line)


def batches_in(path: Path) -> "Iterator[tuple[list[str], array[int], list[Entry]]]":
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
            lines, entries = block.removesuffix(b"\n").split(b"\n"), list[Entry]()
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


def _number_of(path: Path, place: int) -> int:
    with path.open("rb") as file:
        number = 1
        while file.tell() < place:
            file.readline()
            number += 1
    return number
