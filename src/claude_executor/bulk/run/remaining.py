"""What of a source is still to be sent, as a source of its own: for who plans it, or counts its tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from claude_executor.bulk.input.rows import NO_DEFAULTS, RowDefaults, rows_of
from claude_executor.bulk.input.sources import Record, Source
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import hash_of
from claude_executor.bulk.results.reader import ResultsReader


@dataclass(frozen=True, slots=True)
class RemainingSource(Source):
    """Those rows of a source that are to be sent.

    Attributes:
        sends: For every row of the source whether it is one of them; see `RemainingRows.sends`.
    """

    sends: bytearray = field(repr=False)

    def records(self) -> Iterator[tuple[int, Record]]:
        """Its rows, each with its number in the whole source; see `Source.records`."""
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
    """What is to be sent of a source that has been checked.

    Args:
        source: The source.
        sends: For every row whether it is to be sent; see `RemainingRows.sends`.
        defaults: What lines may leave out.
        dedupe: Leave out rows that will be given the answer of another, as `run_file` does.
        results: Where there are answers already.

    Raises:
        NotResults: They are none.
        OSError: Something cannot be read.
    """
    left = RemainingSource(source.path, source.name, sends)
    if not dedupe:
        return left
    asked, once = HashIndex(), bytearray(sends)
    for _, entry in results.entries() if results is not None else ():
        if entry.answered and entry.hash is not None:
            asked.add(entry.hash, 0)
    places = (place for place, is_sent in enumerate(sends) if is_sent)
    for place, row in zip(places, rows_of(left, defaults), strict=True):
        once[place] = asked.add(hash_of(row.params), 0)
    return RemainingSource(source.path, source.name, once)
