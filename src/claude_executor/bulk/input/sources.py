"""Sources of rows: files of JSON lines or tables, compressed or not, and pipes.

A source can be read several times, once to validate it and once to send it. Only one row is in memory at a
time (of Parquet: a batch of rows). A pipe, such as standard input, is copied to a temporary file first, which
only its owner may read and which is deleted at the end.
"""

import gzip
import io
import shutil
import stat
import sys
import tempfile
import threading
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from claude_executor.bulk.input.problems import BadInput, BadRow, RowProblem
from claude_executor.bulk.input.tables import csv_records, parquet_records

Record = bytes | dict[str, object] | BadRow
"""A line of JSON, or the fields of a table row, or what is wrong with that row."""

Stamp = tuple[int, int, int, int]

STANDARD_INPUT = "-"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file of rows that can be read several times.

    Attributes:
        path: The file.
        name: The name in messages.
    """

    path: Path
    name: str

    @property
    def unit(self) -> str:
        """Unit that is numbered: a ``"line"`` of text, or a ``"row"`` of Parquet."""
        return "row" if self._begins_with(_PARQUET) else "line"

    @property
    def stamp(self) -> Stamp:
        """A stamp of the file, which differs for another file and after a change.

        Raises:
            OSError: The file does not exist.
        """
        found = self.path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def records(self) -> Iterator[tuple[int, Record]]:
        """Read the rows, each with its number.

        Raises:
            BadInput: The file is damaged, or not of the format that it seems to be.
            OSError: The file cannot be read.
        """
        if self._begins_with(_PARQUET):
            yield from parquet_records(self.path, self.name)
            return
        table = self.path.name.lower().removesuffix(".gz").endswith(".csv")
        with self._opened() as file:
            try:
                yield from csv_records(file, self.name) if table else _json_lines(file)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                what = "the compressed file is damaged or cut short; make or copy it again"
                raise BadInput(self.name, [RowProblem(0, what)], 1) from error

    def _opened(self) -> IO[bytes]:
        if self._begins_with(_GZIP):
            return io.BufferedReader(gzip.open(self.path), _READ_AT_ONCE)
        return self.path.open("rb")

    def _begins_with(self, mark: bytes) -> bool:
        with self.path.open("rb") as file:
            return file.read(len(mark)) == mark


@dataclass(frozen=True, slots=True)
class CancellableSource(Source):
    """A source that is read in one thread and can be cancelled from another.

    Attributes:
        inner: The source whose rows are read.
        cancelled: Set this event to end every reading at its next row.
    """

    inner: Source = field(repr=False)
    cancelled: threading.Event = field(repr=False)

    def records(self) -> Iterator[tuple[int, Record]]:
        """Read the rows of the inner source; see `Source.records`.

        Raises:
            RuntimeError: The reading was cancelled.
        """
        is_cancelled = self.cancelled.is_set
        for record in self.inner.records():
            if is_cancelled():
                raise RuntimeError(f"reading {self.name} was cancelled")
            yield record


def source_of(source: Path | Source) -> Source:
    """Return a file as a source."""
    return source if isinstance(source, Source) else Source(source, str(source))


@contextmanager
def readable(file: Path) -> Generator[Source]:
    """Yield a source: a file, or the temporary copy of a pipe or of standard input (``-``).

    Raises:
        BadInput: There is no space for the copy.
        OSError: The file cannot be read.
    """
    if str(file) == STANDARD_INPUT:
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # so it is when it was closed
            raise BadInput("standard input", [RowProblem(0, "it is closed; name a file, or pipe rows in")], 1)
        with _spooled(sys.stdin.buffer, "standard input") as source:
            yield source
    elif _is_pipe(file):
        with file.open("rb") as pipe, _spooled(pipe, str(file), file.suffix) as source:
            yield source
    else:
        yield source_of(file)


@contextmanager
def _spooled(pipe: IO[bytes], name: str, ending: str = "") -> Generator[Source]:
    # A directory of its own, because a file that is open cannot be opened again everywhere.
    with tempfile.TemporaryDirectory(prefix="claude-executor-") as directory:
        path = Path(directory) / f"rows{ending}"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(pipe, file, _READ_AT_ONCE)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            what = f"cannot copy it to {directory}: {reason}; set TMPDIR to a directory with more space"
            raise BadInput(name, [RowProblem(0, what)], 1) from error
        yield Source(path, name)


def _is_pipe(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False  # opening it will say why
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _json_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    for number, line in enumerate(file, start=1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901 - what some editors put there
        if not line.isspace():
            yield number, line
