"""Validates a whole input before anything is sent: every row is read, and no id may occur twice.

Only the hash of each id is kept, so a million rows take eight megabytes. Hashes are sorted into buckets by
their last bits, and each bucket is searched by itself: a set of all hashes would take ten times the memory.
Nothing is kept of rows that an earlier start has answered.
"""

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_executor import Params
from claude_executor.bulk.input.problems import BadInput, BadRow, Problems
from claude_executor.bulk.input.rows import NO_DEFAULTS, RowDefaults, parts_of
from claude_executor.bulk.input.sources import Source, Stamp, source_of
from claude_executor.bulk.run.unchanged import UnchangedRows

SHOWN_OF_ID = 40
_BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Survey:
    """Result of the validation of a source.

    Attributes:
        rows: Number of rows.
        models: The models they ask for.
        stamp: Stamp of the file when it was validated; see `Source.stamp`.
    """

    rows: int
    models: frozenset[str]
    stamp: Stamp


def validate(
    source: Path | Source,
    defaults: RowDefaults = NO_DEFAULTS,
    *,
    see: Callable[[str, Params], object] | None = None,
    known: UnchangedRows | None = None,
) -> Survey:
    """Validate every row of a source.

    Args:
        source: The source.
        defaults: What its rows may leave out.
        see: Called with the id and the request of every row, so that a million need be read only once.
        known: Rows that an earlier start has answered. They are neither validated nor shown to `see`, which
            must then belong to the same `Resumption`.

    Raises:
        BadInput: Rows are not valid; the error lists the problems.
        OSError: The source cannot be read.
    """
    source = source_of(source)
    stamp, unit = source.stamp, source.unit
    problems = Problems(unit)
    buckets = [array("q") for _ in range(_BUCKETS)]
    put_into = [bucket.append for bucket in buckets]
    models: set[str] = set()
    records = source.records()
    for number, record in records if known is None else known.others(records):
        try:
            custom_id, params, _ = parts_of(record, number, defaults, unit)
        except BadRow as error:
            problems.add(number, str(error))
            continue
        if see is not None:
            see(custom_id, params)
        mark = hash(custom_id)
        put_into[mark % _BUCKETS](mark)
        models.add(str(params["model"]))
    rows, repeated = sum(map(len, buckets)), _repeated(buckets)
    if known is not None:
        rows += known.passed
        models |= known.models
        repeated |= known.repeated
    if not rows and not problems.count:
        problems.add(0, "no rows found; a row is a line of JSON, or of a table below its header")
    if repeated:
        _find_duplicates(source, defaults, repeated, problems)
    if problems.count:
        raise BadInput(source.name, problems.first(), problems.count)
    return Survey(rows, frozenset(models), stamp)


def _repeated(buckets: "list[array[int]]") -> set[int]:
    """Return the hashes that occur more than once."""
    repeated: set[int] = set()
    for bucket in buckets:
        if len(set(bucket)) != len(bucket):
            repeated.update(mark for mark, times in Counter(bucket).items() if times > 1)
    return repeated


def _find_duplicates(source: Source, defaults: RowDefaults, doubtful: set[int], problems: Problems) -> None:
    """Read the source again for repeated ids: equal hashes may still be chance."""
    first: dict[str, int] = {}
    unit = source.unit
    for number, record in source.records():
        try:
            custom_id, _, _ = parts_of(record, number, defaults, unit)
        except BadRow:
            continue
        if hash(custom_id) in doubtful and first.setdefault(custom_id, number) != number:
            shown = custom_id if len(custom_id) <= SHOWN_OF_ID else custom_id[:SHOWN_OF_ID] + "…"
            problems.add(number, f"'custom_id' {shown!r} is already used by {unit} {first[custom_id]}")
