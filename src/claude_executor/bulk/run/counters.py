"""Counts of the rows of a run, by result. They hold no prompt and no answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_executor import (
    AttemptFailed,
    Event,
    Failed,
    FailureKind,
    Stopped,
    TooLarge,
)
from claude_executor.bulk.costs.prices import Prices, Spent

if TYPE_CHECKING:
    from anthropic.types import Message

LONGEST_REASON = 300
RATE_LIMITED = 429
OVERLOADED = 529
_ERRORS = frozenset(
    {
        FailureKind.SERVER,
        FailureKind.TIMEOUT,
        FailureKind.UNREACHABLE,
        FailureKind.DROPPED,
        FailureKind.TRUNCATED,
        FailureKind.GARBLED,
    }
)


@dataclass(slots=True)
class FailureGroup:
    """Rows that failed in the same way.

    Attributes:
        kind: The kind of failure.
        count: How many rows failed in this way.
        example: The error message of the first of them.
    """

    kind: str
    count: int
    example: str


class RunCounters:
    """Counts of one run.

    Attributes:
        succeeded: Rows that were answered.
        failed: Rows that failed.
        copies: Answered rows that got the answer of an equal request, and were not sent.
        spent: Tokens and money of the answers.
        wasted: Tokens and money of failed attempts, where known.
        refusals: 429 responses.
        overloads: 529 responses.
        errors: Other failed attempts that were not the fault of the request: 5xx, timeouts, connections.
    """

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.copies = 0
        self.spent = Spent()
        self.wasted = Spent()
        self.refusals = 0
        self.overloads = 0
        self.errors = 0
        self._prices = Prices()
        self._failures: dict[str, FailureGroup] = {}

    @property
    def done(self) -> int:
        """Rows that were answered or failed."""
        return self.succeeded + self.failed

    @property
    def failures(self) -> Iterable[FailureGroup]:
        """Groups of failed rows, the largest first."""
        return sorted(self._failures.values(), key=lambda group: -group.count)

    def answered(self, model: str, message: "Message") -> None:
        """Count a row that was answered."""
        self.succeeded += 1
        self.spent += self._prices.spent(model, getattr(message, "usage", None))

    def copied(self) -> None:
        """Count a row that got the answer of an equal request, for free."""
        self.succeeded += 1
        self.copies += 1

    def lost(self, error: Exception) -> None:
        """Count a row that failed."""
        self.failed += 1
        kind = kind_of(error)
        group = self._failures.get(kind)
        if group is None:
            self._failures[kind] = FailureGroup(kind, 1, str(error)[:LONGEST_REASON])
        else:
            group.count += 1

    def listen(self, event: Event) -> None:
        """Count an event of the executor."""
        if isinstance(event, AttemptFailed):
            self.refusals += event.status == RATE_LIMITED
            self.overloads += event.status == OVERLOADED
            self.errors += event.kind in _ERRORS
            if event.usage is not None:
                self.wasted += self._prices.spent_by(event.model, event.usage)


def kind_of(error: Exception) -> str:
    """Name the kind of a failure, to group failures by."""
    if isinstance(error, (Failed, Stopped)):
        return error.kind.value
    if isinstance(error, TooLarge):
        return "larger than a limit"
    if isinstance(error, (ValueError, TypeError)):
        return "invalid request"
    return "not sent"
