"""Compares rows with results: what is done already, and what is still to be sent.

A row is identified by its `custom_id` and the hash of its request. Two numbers are kept for each row that is
done, and one byte for each row of the input.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from claude_executor import Params
from claude_executor.bulk.input.rows import NO_DEFAULTS, RowDefaults, is_named_by_position
from claude_executor.bulk.input.sources import Source
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import ResultEntry, hash_of
from claude_executor.bulk.results.reader import ResultsReader
from claude_executor.bulk.run.unchanged import UnchangedRows
from claude_executor.bulk.run.validate import Survey, validate

OnChanged = Literal["fail", "redo", "keep"]
MOST_NAMED = 20
_MASK = 0xFFFF_FFFF_FFFF_FFFF
_UNKNOWN = 0
"""Stands for the hash of a request that the results do not record; one in 2**64 has it by chance."""


class Changed(Exception):
    """The requests of answered rows have changed, under the same `custom_id`.

    Attributes:
        count: How many rows.
        named: The ids of the first of them.
        by_position: Whether these ids are made of positions in the input, which has none.
    """

    def __init__(self, count: int, named: list[str]) -> None:
        more = f" and {count - len(named):,} more" if count > len(named) else ""
        what = "1 answered row has" if count == 1 else f"{count:,} answered rows have"
        super().__init__(f"{what} changed since: {', '.join(named)}{more}")
        self.count = count
        self.named = named
        self.by_position = all(map(is_named_by_position, named))


@dataclass(slots=True)
class RemainingRows:
    """Decision for each row of an input: send, skip or keep.

    Attributes:
        rows: Rows in the input.
        answered: Rows with an answer, which is kept.
        failed: Rows that failed permanently and are not sent again.
        again: Rows that failed and are sent again.
        redone: Answered rows that are sent again because their request has changed.
        left_out: Rows without a result that are not sent, because only failed rows are.
        others: Results of rows that are not in the input; they are kept.
        sends: Whether a row is sent, as a 0 or a 1 for each row.
    """

    rows: int = 0
    answered: int = 0
    failed: int = 0
    again: int = 0
    redone: int = 0
    left_out: int = 0
    others: int = 0
    sends: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def to_do(self) -> int:
        """Rows to send."""
        return self.rows - self.answered - self.failed - self.left_out


class Resumption:
    """Compares rows with results. Use `survey` (or show it every row with `see`), then `planned`.

    Attributes:
        known: Skips rows whose unchanged request is answered; these need not be shown to `see`.
    """

    def __init__(
        self, results: ResultsReader, *, failures_only: bool = False, on_changed: OnChanged = "fail"
    ) -> None:
        """Read the results.

        Args:
            results: The results. A read-only file can be compared, not settled.
            failures_only: Send all rows that failed, permanent failures included, and no others.
            on_changed: What to do with answered rows whose request has changed.

        Raises:
            NotResults: The file holds something else.
            OSError: The file cannot be read.
        """
        self._results = results
        self._failures_only = failures_only
        self._on_changed = "keep" if failures_only else on_changed
        self._answered, self._final, self._retried = HashIndex(), HashIndex(), HashIndex()
        self._superfluous = 0
        self._earlier: set[tuple[int, int]] = set()
        self._redone = False
        self._changed = 0
        self._named: list[str] = []
        self._rest = RemainingRows()
        self._end = results.end
        self._read(results)
        self.known = UnchangedRows(self._answered, self._rest.sends)

    def see(self, custom_id: str, params: Params) -> bool:
        """Compare the next row, and return whether it is sent."""
        sends = self._sends(custom_id, params)
        self._rest.sends.append(sends)
        return sends

    def survey(
        self,
        source: Path | Source,
        defaults: RowDefaults = NO_DEFAULTS,
        *,
        see: Callable[[str, Params], object] | None = None,
    ) -> Survey:
        """Validate every row of a source, and compare each with the results.

        Args:
            source: The source.
            defaults: What its rows may leave out.
            see: Called with the id and the request of every row that is to be sent.

        Raises:
            BadInput: Rows are not valid; the error lists the problems.
            OSError: The source cannot be read.
        """

        def compare(custom_id: str, params: Params) -> None:
            if self.see(custom_id, params) and see is not None:
                see(custom_id, params)

        return validate(source, defaults, see=self.see if see is None else compare, known=self.known)

    def planned(self) -> RemainingRows:
        """Return what is left to do. When that is done, call `settle`.

        Raises:
            Changed: Answered rows have changed, and `on_changed` is ``"fail"``.
        """
        if self._changed and self._on_changed == "fail":
            raise Changed(self._changed, self._named)
        rest, failed = self._rest, (self._final, self._retried)
        rest = replace(rest, rows=len(rest.sends), answered=rest.answered + self.known.passed)
        known = len(self._answered) + sum(
            key not in self._answered and not (one is self._retried and key in self._final)
            for one in failed
            for key in one
        )
        rest.others = known - rest.answered - rest.failed - rest.again - rest.redone
        return rest

    def settle(self) -> None:
        """Remove superseded results, so that each row has one.

        Until then both results of a row are in the file, so nothing is lost whenever the process ends. Of two
        answers the last counts, also at the next start. An answer is only ever replaced by another answer: if
        the row failed this time, the failure is removed instead, and the row still counts as changed.

        Raises:
            OSError: The file cannot be written; it is unchanged.
        """
        if not (self._retried or self._redone or self._superfluous):
            return
        results, answered, failed, is_doubled = self._results, HashIndex(), HashIndex(), self._doubled()
        for offset, entry in results.entries():
            if offset >= self._end:
                (answered if entry.answered else failed).add(hash(entry.custom_id), 0)

        def stays(offset: int, entry: ResultEntry) -> bool:
            key = hash(entry.custom_id)
            if offset >= self._end:
                return entry.answered or not (key in answered or key in self._answered)
            return not (key in answered or (key in failed and not entry.answered) or is_doubled(entry))

        kept = array("Q", (offset for offset, entry in results.entries() if stays(offset, entry)))
        results.rewrite(results.read(kept))

    def _doubled(self) -> Callable[[ResultEntry], bool]:
        """Return a test of whether a line is a superseded result of its row. Show it every line."""
        kept = HashIndex()

        def is_doubled(entry: ResultEntry) -> bool:
            key = hash(entry.custom_id)
            if key in kept or self._counts_less(key, entry):
                return True
            kept[key] = 0
            return False

        return is_doubled

    def _counts_less(self, key: int, entry: ResultEntry) -> bool:
        if entry.answered:
            return self._answered.get(key) != (entry.hash or _UNKNOWN)
        return key in self._answered or (self._is_final(entry) and key in self._retried)

    def _read(self, results: ResultsReader) -> None:
        keys, hashes = array("Q"), array("Q")
        for ids, asked, entries in results.batches():
            keys.extend([hash(custom_id) & _MASK for custom_id in ids])
            hashes.extend(asked)
            for entry in entries:
                key = hash(entry.custom_id)
                if entry.answered:
                    keys.append(key & _MASK)
                    hashes.append(entry.hash or _UNKNOWN)
                else:
                    failed, other = self._final, self._retried
                    if not self._is_final(entry):
                        failed, other = other, failed
                    self._superfluous += not failed.add(key, entry.hash or _UNKNOWN) or key in other
        if not self._answered.fill(keys, hashes):
            self._superfluous += 1
            answers = zip(keys, hashes, strict=True)
            self._earlier = {(key, asked) for key, asked in answers if self._answered.get(key) != asked}
        # Of several results for a row the best counts; of several answers the last, or the one that fits.
        self._superfluous += sum(key in self._answered for one in (self._final, self._retried) for key in one)

    def _is_final(self, entry: ResultEntry) -> bool:
        return entry.final and not self._failures_only

    def _sends(self, custom_id: str, params: Params) -> bool:
        key, rest = hash(custom_id), self._rest
        position = self._answered.offset_of(key)
        if position is not None:
            self.known.note(key, position)
            answered, asked = self._answered.values()[position], hash_of(params)
            if (key & _MASK, asked) in self._earlier:
                self._answered[key] = answered = asked
            if answered not in (_UNKNOWN, asked):
                self._note_changed(custom_id)
                if self._on_changed == "redo":
                    self._redone = True
                    rest.redone += 1
                    return True
            rest.answered += 1
            return False
        if key in self._retried:
            rest.again += 1
            return True
        was = self._final.get(key)
        if was is None:
            rest.left_out += self._failures_only
            return not self._failures_only
        if was in (_UNKNOWN, hash_of(params)):
            rest.failed += 1
            return False
        self._redone = True  # the request was corrected
        rest.again += 1
        return True

    def _note_changed(self, custom_id: str) -> None:
        """Record a row whose answer is to another request."""
        self._changed += 1
        if len(self._named) < MOST_NAMED:
            self._named.append(custom_id)
