"""What can go wrong, as one tree; every exception answers the question "was anything sent?".

::

    ExecutorError
    ├── Rejected                 nothing was sent, nothing is charged: trying again later is always safe
    │   ├── QueueFull            more requests are waiting than `max_queued` allows
    │   ├── DeadlineExceeded     it could not start before its deadline
    │   ├── SpendingCapReached   it could cost more than a spending cap has left
    │   ├── BudgetUnreachable    the shared budget cannot be asked, and the policy is to refuse then
    │   ├── Stopped              a bad key, a spend limit, no connection: the others would meet it as well
    │   ├── TooLarge             the API refused it although its limit was unused: it can never fit
    │   └── Closed               the executor has been closed
    └── Failed                   it was sent, at least once
        └── StreamInterrupted    its answer was broken off while it was being read

A bad argument is a `ValueError` or `TypeError`, as everywhere in Python, raised before anything is sent.
"""

from typing import TYPE_CHECKING

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import FAILURE_POLICIES, FailureKind

if TYPE_CHECKING:
    from anthropic.types import Message

__all__ = [
    "BudgetUnreachable",
    "Closed",
    "DeadlineExceeded",
    "ExecutorError",
    "Failed",
    "QueueFull",
    "Rejected",
    "SpendingCapReached",
    "Stopped",
    "StreamInterrupted",
    "TooLarge",
]


class ExecutorError(Exception):
    """Base of everything the executor raises of its own."""


class Rejected(ExecutorError):
    """The request was not sent (`TooLarge`: not read), and nothing was charged for it.

    Attributes:
        retry_after: Seconds after which trying again is worth while, where that is known.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Rejected):
    """More requests are waiting than `max_queued` allows."""


class DeadlineExceeded(Rejected):
    """The request could not start before its deadline."""


class SpendingCapReached(Rejected):
    """The request could cost more than is left under a spending cap."""


class BudgetUnreachable(Rejected):
    """The budget that is shared with other executors cannot be asked, and is to be asked for everything."""


class Stopped(Rejected):
    """Not sent, because of something that would meet all others as well.

    That is an answer which an earlier request got (a wrong key, a spent limit, a model that does not exist),
    a key that is missing or cannot be sent, or that no connection can be made.

    Attributes:
        kind: What it was.
    """

    def __init__(self, message: str, *, kind: FailureKind, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.kind = kind


class TooLarge(Rejected):
    """The API refused the request for want of a limit that was not in use: it is larger than the limit."""


class Closed(Rejected):
    """The executor has been closed, or was never opened."""


class Failed(ExecutorError):
    """The request was sent and did not succeed. The SDK's exception, if there was one, is `__cause__`.

    Attributes:
        kind: What went wrong with the last attempt.
        attempts: How often it was sent.
        status: HTTP status of the last response, if there was one.
        request_id: The API's id of the last exchange, if it gave one.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        attempts: int,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.attempts = attempts
        self.status = status
        self.request_id = request_id

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed another time."""
        return FAILURE_POLICIES[self.kind].retry


class StreamInterrupted(Failed):
    """An answer was broken off after its reader had seen some of it; so it was not tried again.

    Attributes:
        message: What had come of it, if anything.
        usage: What that took, as far as it is known.
    """

    message: "Message | None" = None
    usage: Usage | None = None
