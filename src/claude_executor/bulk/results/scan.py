"""Reads all lines of a results file, as a start does: a million of them must take no more than seconds.

A damaged line is an error that names it: it may be an answer that was paid for. Half a line at the end is
passed over: the next start cuts it off, or another process is just writing it.
"""

import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from claude_executor.bulk.results.line import (
    AFTER_ID,
    BEFORE_HASH,
    BEFORE_ID,
    LONGEST_END,
    NotAResult,
    NotResults,
    ResultEntry,
    ResultLine,
    begins_like_a_result,
    is_whole,
)

_READ_AT_ONCE = 1 << 20
_BLOCK = 1 << 16
_HASH_DIGITS = 16


def entries_in(path: Path) -> Iterator[tuple[int, ResultEntry]]:
    """Iterate over the lines of a file, each with the offset at which it begins.

    Raises:
        NotResults: A line is not a result.
    """
    offset = 0
    with path.open("rb", buffering=_READ_AT_ONCE) as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and _is_torn(line, number):
                return
            try:
                yield offset, ResultLine.glance(line)
            except NotAResult as error:
                raise NotResults(path, number, str(error)) from None
            offset += len(line)


def batches_in(path: Path) -> "Iterator[tuple[list[str], array[int], list[ResultEntry]]]":
    """Iterate over the lines of a file, many at a time, which is several times as fast.

    A batch is either all answers: the ids of their rows and the hashes of their requests. Or it has the
    entries of its lines, and no ids and hashes.

    Raises:
        NotResults: A line is not a result.
    """
    number = 0
    with path.open("rb", buffering=_READ_AT_ONCE) as file:
        while block := file.read(_BLOCK):
            block += file.readline()
            last = block[block.rfind(b"\n") + 1 :]
            if last and _is_torn(last, number + block.count(b"\n") + 1):
                block = block.removesuffix(last)
                if not block:
                    return
            lines, entries = block.removesuffix(b"\n").split(b"\n"), list[ResultEntry]()
            answers = _answers_in(block, lines)
            if answers is None:
                try:
                    entries.extend(map(ResultLine.glance, lines))
                except NotAResult as error:
                    raise NotResults(path, number + len(entries) + 1, str(error)) from None
            ids, hashes = answers or ([], array("Q"))
            yield ids, hashes, entries
            number += len(lines)


def _answers_in(block: bytes, lines: list[bytes]) -> "tuple[list[str], array[int]] | None":
    """Return the ids and the hashes of lines that are answers; None if any might be something else.

    Args:
        block: The lines in one piece.
        lines: The same, line by line.
    """
    ids: list[bytes] = []
    digits: list[bytes] = []
    if block.count(BEFORE_ID) != len(lines):  # as in `ResultLine.glance`
        return None
    begin, length = len(BEFORE_ID), len(BEFORE_HASH)
    for line in lines:
        end, mark = line.find(b'"', begin), line.rfind(BEFORE_HASH, -LONGEST_END)
        if mark < 0 or not line.startswith(BEFORE_ID) or not line.startswith(AFTER_ID, end):
            return None
        ids.append(line[begin:end])
        digits.append(line[mark + length : mark + length + _HASH_DIGITS + 1])
    named, written = b"\n".join(ids), b"".join(digits)
    if b"\\" in named or written.count(b'"') != len(lines):
        return None
    written = written.replace(b'"', b"")
    try:
        hashes = array("Q", bytes.fromhex(written.decode()))
        custom_ids = named.decode().split("\n")
    except ValueError:
        return None
    if sys.byteorder == "little":
        hashes.byteswap()
    if len(hashes) != len(lines) or len(written) != _HASH_DIGITS * len(lines):
        return None
    return custom_ids, hashes


def _is_torn(line: bytes, number: int) -> bool:
    """Whether a last line without a line end is half a result, and not the beginning of something else."""
    return not is_whole(line) and (number > 1 or begins_like_a_result(line))
