"""The check of a whole input before anything is sent: every row is read, and no id may come twice.

Nothing is kept of a row but the hash of its id, so that a million rows cost eight megabytes. They are
counted out into drawers by their last bits, and each drawer is looked through for itself: a set of all of
them would take ten times as much. Of rows that are known from an earlier start nothing is kept here.
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
_DRAWERS = 256


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds.

    Attributes:
        rows: Rows that can be sent.
        models: The models they ask for.
        stamp: That of the file when it was checked.
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
    """Read every row of a source and say what it holds.

    Args:
        source: The source.
        defaults: What its rows may leave out.
        see: Is shown the id and the request of every row in turn, so that a million need be read only once.
        known: What an earlier start has checked and sent; those rows are neither checked nor shown to `see`.
            Then `see` must be the `Resumption` that it is of.

    Raises:
        BadInput: Something is wrong with it.
        OSError: It cannot be read.
    """
    source = source_of(source)
    stamp, unit = source.stamp, source.unit
    problems = Problems(unit)
    drawers = [array("q") for _ in range(_DRAWERS)]
    put_into = [drawer.append for drawer in drawers]
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
        put_into[mark % _DRAWERS](mark)
        models.add(str(params["model"]))
    rows, repeated = sum(map(len, drawers)), _repeated(drawers)
    if known is not None:
        rows += known.passed
        models |= known.models
        repeated |= known.repeated
    if not rows and not problems.count:
        problems.add(0, "there are no rows in it; a row is a line of JSON, or of a table below its header")
    if repeated:
        _find_duplicates(source, defaults, repeated, problems)
    if problems.count:
        raise BadInput(source.name, problems.first(), problems.count)
    return Survey(rows, frozenset(models), stamp)


def _repeated(drawers: "list[array[int]]") -> set[int]:
    """Hashes that occur more than once."""
    repeated: set[int] = set()
    for drawer in drawers:
        if len(set(drawer)) != len(drawer):
            repeated.update(mark for mark, times in Counter(drawer).items() if times > 1)
    return repeated


def _find_duplicates(source: Source, defaults: RowDefaults, doubtful: set[int], problems: Problems) -> None:
    """Read the source again for ids whose hashes are equal: that may still be chance."""
    first: dict[str, int] = {}
    unit = source.unit
    for number, record in source.records():
        try:
            custom_id, _, _ = parts_of(record, number, defaults, unit)
        except BadRow:
            continue
        if hash(custom_id) in doubtful and first.setdefault(custom_id, number) != number:
            shown = custom_id if len(custom_id) <= SHOWN_OF_ID else custom_id[:SHOWN_OF_ID] + "…"
            problems.add(number, f"'custom_id' {shown!r} is already that of {unit} {first[custom_id]}")
