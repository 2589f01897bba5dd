"""Rows that are answered just as they stand: a start passes over a million of them in seconds.

Such a row was checked when it was sent, and is as it was then. So it is neither checked nor counted as others
are; that its id comes once more is seen by a byte it has, instead of by a look through all ids.
"""

from collections.abc import Iterable, Iterator

import orjson

from claude_executor.bulk.input.sources import Record
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import hash_of

_NOT_BESIDE_PARAMS = frozenset({"body", "prompt", "result", "executor"})


class UnchangedRows:
    """Knows the rows that need no look, since their results tell all about them.

    Attributes:
        passed: How many rows it has passed over.
        models: The models these ask for.
        repeated: Hashes of ids that have come twice.
    """

    def __init__(self, answered: HashIndex, sends: bytearray) -> None:
        """Take the hashes of answered requests, by those of their ids; and where it is noted who is sent."""
        self._answered = answered
        self._sends = sends
        self._seen = bytearray(len(answered))
        self.passed = 0
        self.models: set[str] = set()
        self.repeated: set[int] = set()

    def others(self, records: Iterable[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
        """Pass over the rows that are known; the others are to be dealt with one by one, before the next.

        All in one go, for on a job that is done a start does little else.
        """
        loads, place_of, hashes = orjson.loads, self._answered.offset_of, self._answered.values()
        seen, decided, is_alone = self._seen, self._sends.append, _NOT_BESIDE_PARAMS.isdisjoint
        asked_for = self.models.add
        for one in records:
            record = one[1]
            if seen and isinstance(record, bytes):
                try:
                    row = loads(record)
                    params, place = row["params"], place_of(hash(row["custom_id"]))
                    whole = "model" in params and "max_tokens" in params and is_alone(row)
                    if place is not None and whole and not seen[place] and hash_of(params) == hashes[place]:
                        seen[place] = True
                        decided(False)
                        self.passed += 1
                        asked_for(str(params["model"]))
                        continue
                except (ValueError, TypeError, LookupError):
                    pass  # whatever it is, it was not sent like this
            yield one

    def note(self, key: int, place: int) -> None:
        """Another row, of which this is the hash of the id, has an answer at this place."""
        if self._seen[place]:
            self.repeated.add(key)
        self._seen[place] = True
