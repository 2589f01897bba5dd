"""Sorts results in the order of the rows, as the last step of a run.

Results are always written as they come: an answer that is paid for must not wait in memory for an earlier
row. When the run ends, the file is sorted in one step.
"""

from array import array
from collections.abc import Iterable
from itertools import pairwise

from claude_executor.bulk.input.rows import Row
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.writer import ResultsFile

_TAKEN = 0xFFFF_FFFF_FFFF_FFFF


def sort_results(results: ResultsFile, rows: Iterable[Row]) -> None:
    """Sort results in the order of the rows. Results of rows that no longer exist come last.

    Of several results for one row the last answer stays, or the last failure if there is no answer.

    Raises:
        OSError: The sorted file cannot be written; the results are unchanged.
    """
    offsets = HashIndex()
    for offset, entry in results.entries():
        key, marked = hash(entry.custom_id), offset << 1 | entry.answered
        before = offsets.get(key)
        if entry.answered or before is None or not before & 1:
            offsets[key] = marked
    in_order = array("Q")
    for row in rows:
        key = hash(row.custom_id)
        found = offsets.get(key)
        if found is not None:
            in_order.append(found >> 1)
            offsets[key] = _TAKEN
    in_order.extend(offset >> 1 for offset in offsets.values() if offset != _TAKEN)
    if any(here > there for here, there in pairwise(in_order)):
        results.rewrite(results.read(in_order))
