"""What became of the rows of a run, counted as they come. Holds no prompt and no answer."""

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
        kind: What went wrong.
        count: How many rows it struck.
        example: What the first of them was told.
    """

    kind: str
    count: int
    example: str


class RunCounters:
    """Counts of one run.

    Attributes:
        succeeded: Rows that were answered.
        failed: Rows that were not, and will not be.
        copies: Rows among those answered that were not sent, because another asked the same.
        spent: Tokens and money of the answers.
        wasted: The same of attempts that failed, where it is known.
        refusals: 429s met on the way.
        overloads: 529s met on the way.
        errors: Other attempts that failed without fault of the request: 5xx, timeouts, connections.
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
        """Rows of which it is known what became of them."""
        return self.succeeded + self.failed

    @property
    def failures(self) -> Iterable[FailureGroup]:
        """The failures by kind, the commonest first."""
        return sorted(self._failures.values(), key=lambda group: -group.count)

    def answered(self, model: str, message: "Message") -> None:
        """A row was answered."""
        self.succeeded += 1
        self.spent += self._prices.spent(model, getattr(message, "usage", None))

    def copied(self) -> None:
        """A row got the answer of another that asked the same; nothing was paid for it."""
        self.succeeded += 1
        self.copies += 1

    def lost(self, error: Exception) -> None:
        """A row has failed."""
        self.failed += 1
        kind = kind_of(error)
        group = self._failures.get(kind)
        if group is None:
            self._failures[kind] = FailureGroup(kind, 1, str(error)[:LONGEST_REASON])
        else:
            group.count += 1

    def listen(self, event: Event) -> None:
        """Something happened in the executor."""
        if isinstance(event, AttemptFailed):
            self.refusals += event.status == RATE_LIMITED
            self.overloads += event.status == OVERLOADED
            self.errors += event.kind in _ERRORS
            if event.usage is not None:
                self.wasted += self._prices.spent_by(event.model, event.usage)


def kind_of(error: Exception) -> str:
    """A few words for what went wrong, to group by."""
    if isinstance(error, (Failed, Stopped)):
        return error.kind.value
    if isinstance(error, TooLarge):
        return "larger than a limit"
    if isinstance(error, (ValueError, TypeError)):
        return "invalid request"
    return "not sent"
