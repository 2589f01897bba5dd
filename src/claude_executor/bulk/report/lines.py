"""Reads a results file into columns of numbers; no prompt and no answer is kept.

Results of `run` tell of each row when it came and how long it took, under ``"executor"``. Results of Message
Batches, and whatever else has their shape, do not; then those columns hold nothing but `nan`.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from claude_executor.bulk.costs.prices import Prices, Spent, factor

Floats = npt.NDArray[np.floating[Any]]

NAN = float("nan")
MOST = 10**15
"""Numbers beyond are no measurements."""
SUCCEEDED = -1
MOST_KINDS = 100
MOST_EXAMPLES = 3
LONGEST_TEXT = 300
OTHER = "other"

_Taken = tuple[int, int, int, int, float | None]
"""What a `Spent` holds. A million of those would take a second to make."""
_NOTHING_TAKEN: _Taken = (0, 0, 0, 0, 0.0)
_NOTHING: Mapping[str, Any] = {}


class Example(NamedTuple):
    """One row that failed, and what its error says."""

    custom_id: str
    message: str


@dataclass(frozen=True, slots=True)
class FailureExamples:
    """Rows that failed in one way: its name, their number, and some of them."""

    kind: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a results file holds, a column for each thing, in the order of the file.

    Attributes:
        at: Unix time of the result.
        waited: Seconds in the queue.
        took: Seconds of the last attempt.
        attempts: Attempts made.
        dollars: The price of the answer; `nan` where it is not known, 0 for a failure or a copy.
        succeeded: Whether the row was answered.
        failures: The failures by kind, the commonest first.
        spent: Tokens and money of all answers.
        unreadable: Lines that are no results.
        doubled: Rows that have several lines.
    """

    at: Floats
    waited: Floats
    took: Floats
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
    """Read a results file. Where an id comes more than once, its last answer holds, else its last line.

    Raises:
        OSError: It cannot be read.
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
        self._waited, self._took, self._attempts, self._dollars = (array("f") for _ in range(4))
        self._inputs, self._outputs, self._read, self._written = (array("q") for _ in range(4))
        self._kinds: dict[str, list[tuple[int, Example]]] = {}
        self._prices = Prices()
        self._unreadable = 0

    def take(self, line: bytes) -> None:
        """Read one line. Half of one is what a killed run leaves behind, so it is no error."""
        try:
            value = orjson.loads(line)
            result = value["result"]
            kind = result["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._unreadable += 1
            return
        custom_id = str(value.get("custom_id", ""))
        ours = _mapping(value.get("executor"))
        spent = _NOTHING_TAKEN
        if kind == "succeeded":
            self._kind.append(SUCCEEDED)
            if "copy_of" not in ours:  # nothing was paid for a copy
                message = _mapping(result.get("message"))
                spent = self._spent(str(message.get("model", "")), _mapping(message.get("usage")))
        else:
            self._kind.append(self._failed(custom_id, str(kind), _mapping(result.get("error"))))
        self._ids.append(hash(custom_id) if custom_id else len(self._ids))
        self._at.append(_number(ours.get("at")))
        self._waited.append(_number(ours.get("waited")))
        self._took.append(_number(ours.get("took")))
        self._attempts.append(_number(ours.get("attempts")))
        fresh, output, read, written, dollars = spent
        self._dollars.append(NAN if dollars is None else dollars)
        self._inputs.append(fresh)
        self._outputs.append(output)
        self._read.append(read)
        self._written.append(written)

    def rows(self) -> Rows:
        """What was read."""
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
            waited=np.frombuffer(self._waited, np.float32)[kept],
            took=np.frombuffer(self._took, np.float32)[kept],
            attempts=np.frombuffer(self._attempts, np.float32)[kept],
            dollars=dollars,
            succeeded=kinds == SUCCEEDED,
            failures=self._failures(kinds, kept),
            spent=Spent(inputs, outputs, read, written, in_all),
            unreadable=self._unreadable,
            doubled=doubled,
        )

    def _kept(self) -> tuple[npt.NDArray[np.bool_], int]:
        """Which lines hold, of those of an id, and how many ids have several."""
        succeeded = np.frombuffer(self._kind, np.int16) == SUCCEEDED
        # The line that holds comes first: answers before failures, and of either the last.
        order = np.argsort(succeeded, kind="stable")[::-1]
        _, first, counts = np.unique(
            np.frombuffer(self._ids, np.int64)[order], return_index=True, return_counts=True
        )
        kept = np.zeros(len(order), np.bool_)
        kept[order[first]] = True
        return kept, int((counts > 1).sum())

    def _failed(self, custom_id: str, kind: str, error: Mapping[str, Any]) -> int:
        said = _mapping(error.get("error", error))
        # Batches also know rows that were canceled or have expired; those have no error.
        name = str(said.get("type", kind))[:LONGEST_TEXT] if kind == "errored" else kind[:LONGEST_TEXT]
        if name not in self._kinds and len(self._kinds) >= MOST_KINDS:
            name = OTHER
        examples = self._kinds.setdefault(name, [])
        message = str(said.get("message", ""))[:LONGEST_TEXT]
        if len(examples) < MOST_EXAMPLES and all(message != example.message for _, example in examples):
            examples.append((len(self._ids), Example(custom_id[:LONGEST_TEXT], message)))
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

    def _spent(self, model: str, usage: Mapping[str, Any]) -> _Taken:
        if not usage:
            return 0, 0, 0, 0, None
        said = usage.get
        fresh, output = _count(said("input_tokens")), _count(said("output_tokens"))
        read, written = _count(said("cache_read_input_tokens")), _count(said("cache_creation_input_tokens"))
        tools = said("server_tool_use")
        dollars = self._prices.dollars(
            model,
            fresh,
            output,
            read,
            written,
            _count(_mapping(said("cache_creation")).get("ephemeral_1h_input_tokens")) if written else 0,
            searches=_count(_mapping(tools).get("web_search_requests")) if tools else 0,
            factor=factor(speed=said("speed"), geo=said("inference_geo"), tier=said("service_tier")),
        )
        return fresh, output, read, written, dollars


# ---- values of which nothing is known


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - `cast` takes longer than the rest of it
    return value if value.__class__ is dict else _NOTHING


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) and abs(value) < MOST else NAN


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < MOST else 0
