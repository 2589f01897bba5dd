"""The fast path of a resume: skips rows whose unchanged request is already answered, a million in seconds.

Such a row was validated when it was sent and has not changed since, so it is not validated again. A repeated
id is found by one byte for each answered row, instead of a search through all ids.
"""

from collections.abc import Iterable, Iterator

import orjson

from claude_executor.bulk.input.sources import Record
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import hash_of

_NOT_BESIDE_PARAMS = frozenset({"body", "prompt", "result", "executor"})


class UnchangedRows:
    """Skips the rows whose unchanged request is answered.

    Attributes:
        passed: How many rows were skipped.
        models: The models of these rows.
        repeated: Hashes of ids that occurred twice.
    """

    def __init__(self, answered: HashIndex, sends: bytearray) -> None:
        """Take the hashes of answered requests by those of their ids, and the record of rows to send."""
        self._answered = answered
        self._sends = sends
        self._seen = bytearray(len(answered))
        self.passed = 0
        self.models: set[str] = set()
        self.repeated: set[int] = set()

    def others(self, records: Iterable[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
        """Yield the rows that cannot be skipped. Deal with each of them before asking for the next.

        One loop with everything inlined: on a job that is done, a start does little else.
        """
        loads, position_of, hashes = orjson.loads, self._answered.offset_of, self._answered.values()
        seen, decided, is_alone = self._seen, self._sends.append, _NOT_BESIDE_PARAMS.isdisjoint
        asked_for = self.models.add
        for one in records:
            record = one[1]
            if seen and isinstance(record, bytes):
                try:
                    row = loads(record)
                    params, position = row["params"], position_of(hash(row["custom_id"]))
                    whole = "model" in params and "max_tokens" in params and is_alone(row)
                    if (
                        position is not None
                        and whole
                        and not seen[position]
                        and hash_of(params) == hashes[position]
                    ):
                        seen[position] = True
                        decided(False)
                        self.passed += 1
                        asked_for(str(params["model"]))
                        continue
                except (ValueError, TypeError, LookupError):
                    pass  # whatever this is, it was not sent like this
            yield one

    def note(self, key: int, position: int) -> None:
        """Note a row that was not skipped and has an answer; `key` is the hash of its id."""
        if self._seen[position]:
            self.repeated.add(key)
        self._seen[position] = True
