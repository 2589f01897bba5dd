"""The exceptions of an executor, as one tree: each answers the question "was anything sent?".

::

    ExecutorError
    ├── Rejected                 nothing was sent, nothing is charged: it is safe to submit again later
    │   ├── QueueFull            more requests are waiting than `max_queued` allows
    │   ├── DeadlineExceeded     the request could not start before its deadline
    │   ├── SpendingCapReached   the request could cost more than a spending cap has left
    │   ├── BudgetUnreachable    the shared budget cannot be reached, and the policy is to refuse then
    │   ├── Stopped              a bad key, a spend limit, no connection: every other request would fail, too
    │   ├── TooLarge             the request is larger than a rate limit: it can never fit
    │   └── Closed               the executor has been closed
    └── Failed                   the request was sent, at least once
        └── StreamInterrupted    the response broke off while it was being read

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
    """Base class of the executor's own exceptions."""


class Rejected(ExecutorError):
    """The request was not sent (`TooLarge`: was refused by the API), and nothing was charged for it.

    Attributes:
        retry_after: Seconds after which to submit it again, if known.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Rejected):
    """More requests are waiting than `max_queued` allows."""


class DeadlineExceeded(Rejected):
    """The request could not start before its deadline."""


class SpendingCapReached(Rejected):
    """The request could cost more than a spending cap has left."""


class BudgetUnreachable(Rejected):
    """The budget shared with other executors cannot be reached, and nothing may be sent without it."""


class Stopped(Rejected):
    """The request was not sent, for a reason that holds for other requests as well.

    The reason is the response to an earlier request (a wrong key, a spent limit, a model that does not
    exist), a key that is missing or malformed, or a connection that cannot be made.

    Attributes:
        kind: The kind of failure.
    """

    def __init__(self, message: str, *, kind: FailureKind, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.kind = kind


class TooLarge(Rejected):
    """The API refused the request although its rate limit was unused: it is larger than the limit."""


class Closed(Rejected):
    """The executor has been closed, or was never opened."""


class Failed(ExecutorError):
    """The request was sent and did not succeed. The SDK's exception, if there was one, is `__cause__`.

    Attributes:
        kind: What went wrong with the last attempt.
        attempts: How often the request was sent.
        status: HTTP status of the last response, if any.
        request_id: The API's id of the last exchange, if any.
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
        """Whether the same request may succeed later."""
        return FAILURE_POLICIES[self.kind].retry


class StreamInterrupted(Failed):
    """A response broke off after its reader had seen some of it; so the request was not retried.

    Attributes:
        message: The part of the message that had arrived, if any.
        usage: What that part used, as far as is known.
    """

    message: "Message | None" = None
    usage: Usage | None = None
