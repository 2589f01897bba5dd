"""The rows of a source that are still to be sent, as a source of its own, for planning and counting."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from claude_executor.bulk.input.rows import NO_DEFAULTS, RowDefaults, rows_of
from claude_executor.bulk.input.sources import Record, Source
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import hash_of
from claude_executor.bulk.results.reader import ResultsReader


@dataclass(frozen=True, slots=True)
class RemainingSource(Source):
    """The rows of a source that are to be sent.

    Attributes:
        sends: Whether a row is sent, for each row of the whole source; see `RemainingRows.sends`.
    """

    sends: bytearray = field(repr=False)

    def records(self) -> Iterator[tuple[int, Record]]:
        """Read the remaining rows, numbered as in the whole source; see `Source.records`."""
        for one, is_sent in zip(Source.records(self), self.sends, strict=False):
            if is_sent:
                yield one


def remaining(
    source: Source,
    sends: bytearray,
    defaults: RowDefaults = NO_DEFAULTS,
    *,
    dedupe: bool = False,
    results: ResultsReader | None = None,
) -> RemainingSource:
    """Return the rows of a validated source that are to be sent.

    Args:
        source: The source.
        sends: Whether a row is sent, for each row; see `RemainingRows.sends`.
        defaults: What rows may leave out.
        dedupe: Leave out rows that will get the answer to an equal request, as `run_file` does.
        results: The results, which have answers already.

    Raises:
        NotResults: The file holds something else.
        OSError: A file cannot be read.
    """
    left = RemainingSource(source.path, source.name, sends)
    if not dedupe:
        return left
    asked, once = HashIndex(), bytearray(sends)
    for _, entry in results.entries() if results is not None else ():
        if entry.answered and entry.hash is not None:
            asked.add(entry.hash, 0)
    positions = (position for position, is_sent in enumerate(sends) if is_sent)
    for position, row in zip(positions, rows_of(left, defaults), strict=True):
        once[position] = asked.add(hash_of(row.params), 0)
    return RemainingSource(source.path, source.name, once)
