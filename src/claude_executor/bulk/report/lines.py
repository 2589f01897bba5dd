"""Reads a results file into columns of numbers; no prompt and no answer is kept.

Results of `run` record when each row was done and how long it took, under ``"executor"``. Results of Message
Batches, and of other programs with the same format, do not; those columns are `nan` then.
"""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from claude_executor import Usage
from claude_executor.bulk.costs.prices import Prices, Spent
from claude_executor.bulk.results.line import NotAResult, ResultLine

Floats = npt.NDArray[np.floating[Any]]

NAN = float("nan")
SUCCEEDED = -1
MOST_KINDS = 100
MOST_EXAMPLES = 3
LONGEST_TEXT = 300
OTHER = "other"

NOTHING_USED = Usage()


class Example(NamedTuple):
    """One row that failed, and the message of its error."""

    custom_id: str
    message: str


@dataclass(frozen=True, slots=True)
class FailureExamples:
    """Rows that failed with the same error: its name, the number of rows, and some of them."""

    kind: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A results file in columns, in the order of the file.

    Attributes:
        at: Unix time of the result.
        queue_time: Seconds in the queue.
        duration: Seconds of the last attempt.
        attempts: Attempts made.
        dollars: The price of the answer; `nan` where it is unknown, 0 for a failure or a copy.
        succeeded: Whether the row was answered.
        failures: The failures by kind, the most common first.
        spent: Tokens and money of all answers.
        unreadable: Lines that are not results.
        doubled: Rows with more than one line.
    """

    at: Floats
    queue_time: Floats
    duration: Floats
    attempts: Floats
    dollars: Floats
    succeeded: npt.NDArray[np.bool_]
    failures: tuple[FailureExamples, ...]
    spent: Spent
    unreadable: int
    doubled: int

    def __len__(self) -> int:
        return len(self.at)


def read_rows(path: Path) -> Rows:
    """Read a results file. If an id occurs more than once, its last answer counts, else its last line.

    Raises:
        OSError: The file cannot be read.
    """
    reader = _Reader()
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                reader.take(line)
    return reader.rows()


class _Reader:
    def __init__(self) -> None:
        self._ids = array("q")
        self._kind = array("h")
        self._at = array("d")
        self._queue_time, self._duration, self._attempts, self._dollars = (array("f") for _ in range(4))
        self._inputs, self._outputs, self._read, self._written = (array("q") for _ in range(4))
        self._kinds: dict[str, list[tuple[int, Example]]] = {}
        self._prices = Prices()
        self._unreadable = 0

    def take(self, text: bytes) -> None:
        """Read one line. A line that is not a result is counted: a killed run leaves half a line behind."""
        try:
            line = ResultLine.parse(text)
        except NotAResult:
            self._unreadable += 1
            return
        custom_id = line.custom_id
        usage, dollars = NOTHING_USED, 0.0
        if line.type == "succeeded":
            self._kind.append(SUCCEEDED)
            if not line.is_copy:  # a copy cost nothing
                reported = line.usage
                usage = reported or NOTHING_USED
                dollars = _dollars(self._prices.price(line.model, usage) if reported else None)
        else:
            self._kind.append(self._failed(custom_id, line))
        self._ids.append(hash(custom_id) if custom_id else len(self._ids))
        at, queue_time, duration, attempts = line.measured
        self._at.append(at)
        self._queue_time.append(queue_time)
        self._duration.append(duration)
        self._attempts.append(attempts)
        self._dollars.append(dollars)
        self._inputs.append(usage.input_tokens)
        self._outputs.append(usage.output_tokens)
        self._read.append(usage.cache_read_tokens)
        self._written.append(usage.cache_creation_tokens)

    def rows(self) -> Rows:
        """Return the columns of the lines that count."""
        kept, doubled = self._kept()
        kinds = np.frombuffer(self._kind, np.int16)[kept]
        dollars = np.frombuffer(self._dollars, np.float32)[kept]
        inputs, outputs, read, written = (
            int(np.frombuffer(column, np.int64)[kept].sum())
            for column in (self._inputs, self._outputs, self._read, self._written)
        )
        known = not np.isnan(dollars).any()
        in_all = float(dollars.sum(dtype=np.float64)) if known else None
        return Rows(
            at=np.frombuffer(self._at, np.float64)[kept],
            queue_time=np.frombuffer(self._queue_time, np.float32)[kept],
            duration=np.frombuffer(self._duration, np.float32)[kept],
            attempts=np.frombuffer(self._attempts, np.float32)[kept],
            dollars=dollars,
            succeeded=kinds == SUCCEEDED,
            failures=self._failures(kinds, kept),
            spent=Spent(inputs, outputs, read, written, in_all),
            unreadable=self._unreadable,
            doubled=doubled,
        )

    def _kept(self) -> tuple[npt.NDArray[np.bool_], int]:
        """Return which lines count, one for each id, and how many ids have more than one."""
        succeeded = np.frombuffer(self._kind, np.int16) == SUCCEEDED
        # The line that counts comes first: answers before failures, and of either the last.
        order = np.argsort(succeeded, kind="stable")[::-1]
        _, first, counts = np.unique(
            np.frombuffer(self._ids, np.int64)[order], return_index=True, return_counts=True
        )
        kept = np.zeros(len(order), np.bool_)
        kept[order[first]] = True
        return kept, int((counts > 1).sum())

    def _failed(self, custom_id: str, line: ResultLine) -> int:
        # Message Batches also have rows that were canceled or have expired. Those have no error.
        error = line.error
        name = _text(error.get("type", line.type) if line.type == "errored" else line.type)
        if name not in self._kinds and len(self._kinds) >= MOST_KINDS:
            name = OTHER
        examples = self._kinds.setdefault(name, [])
        message = _text(error.get("message", ""))
        if len(examples) < MOST_EXAMPLES and all(message != example.message for _, example in examples):
            examples.append((len(self._ids), Example(_text(custom_id), message)))
        return list(self._kinds).index(name)

    def _failures(
        self, kinds: npt.NDArray[np.int16], kept: npt.NDArray[np.bool_]
    ) -> tuple[FailureExamples, ...]:
        counts = np.bincount(kinds[kinds != SUCCEEDED], minlength=len(self._kinds))
        groups = [
            FailureExamples(name, int(count), tuple(example for row, example in examples if kept[row]))
            for (name, examples), count in zip(self._kinds.items(), counts, strict=True)
            if count
        ]
        return tuple(sorted(groups, key=lambda group: -group.count))


def _dollars(price: float | None) -> float:
    return NAN if price is None else price


def _text(value: object) -> str:
    """Return the beginning of a text. Half a surrogate pair, which no page can hold, is replaced."""
    return str(value)[:LONGEST_TEXT].encode(errors="replace").decode()
