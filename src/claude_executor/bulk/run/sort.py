"""Results in the order of the rows: the last step of a run that was asked for it.

Results are journalled as they come, whatever the order asked for: an answer that is paid for must not wait
in memory for another that is not there yet. When the run ends, the file is put in order in one step.
"""

from array import array
from collections.abc import Iterable
from itertools import pairwise

from claude_executor.bulk.input.rows import Row
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.writer import ResultsFile

_TAKEN = 0xFFFF_FFFF_FFFF_FFFF


def sort_results(results: ResultsFile, rows: Iterable[Row]) -> None:
    """Sort the results as the rows are; results of rows that are no more come last.

    Of several for one row the last stays, or the last answer if there is one.

    Raises:
        OSError: There is no room for the sorted file; the results are as they were.
    """
    places = HashIndex()
    for place, entry in results.entries():
        key, marked = hash(entry.custom_id), place << 1 | entry.answered
        before = places.get(key)
        if entry.answered or before is None or not before & 1:
            places[key] = marked
    in_order = array("Q")
    for row in rows:
        key = hash(row.custom_id)
        place_or_none = places.get(key)
        if place_or_none is not None:
            in_order.append(place_or_none >> 1)
            places[key] = _TAKEN
    in_order.extend(place >> 1 for place in places.values() if place != _TAKEN)
    if any(here > there for here, there in pairwise(in_order)):
        results.rewrite(results.read(in_order))
