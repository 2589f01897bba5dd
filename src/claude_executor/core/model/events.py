"""What can be observed of an executor, as plain values. None of them holds a prompt, an answer or a key."""

from dataclasses import dataclass

from claude_executor.core.model.actions import Refusal
from claude_executor.core.model.cost import Resource, Usage
from claude_executor.core.model.failure import FailureKind, Scope
from claude_executor.core.model.gate import BreakerState, HeldBy
from claude_executor.core.model.limits import LimitSource
from claude_executor.core.model.sharing import SharingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened at `at`, in seconds on the executor's clock."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent(Event):
    """Something happened to one request.

    Every request begins with `RequestSubmitted` and ends with exactly one of `RequestAnswered`,
    `RequestRefused`, `RequestCancelled`, and an `AttemptFailed` that is not tried again.
    """

    number: int
    pool: str
    model: str
    tenant: str
    submitted_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSubmitted(RequestEvent):
    """A request has come. Told in its caller's own context, before `submit` waits for anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(RequestEvent):
    """An attempt is sent.

    `waited_for` is the time since the request was submitted, and `held_by` what the line it stood in was held
    up by before its turn; `None` if by nothing.
    """

    attempt: int
    queue_time: float
    held_by: HeldBy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(RequestEvent):
    """The request succeeded, `took` seconds after its last attempt was sent."""

    attempts: int
    queue_time: float
    duration: float
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(RequestEvent):
    """An attempt failed; `retry_in` seconds from now it is tried again, or not if `None`.

    `usage` is what it took all the same, where that is known.
    """

    attempt: int
    kind: FailureKind
    status: int | None
    request_id: str | None
    retry_in: float | None
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(RequestEvent):
    """The request was turned away without (another) attempt: `because` is the value of a `Refusal`."""

    reason: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancelled(RequestEvent):
    """Its caller gave the request up, after so many attempts; `usage` is what the last one took, if known."""

    attempts: int
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClosed(Event):
    """A 429 closed a pool of models until `until`."""

    pool: str
    kind: FailureKind
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLearned(Event):
    """The limit in force for a resource changed, in amounts per minute."""

    pool: str
    resource: Resource
    limit: float
    source: LimitSource


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged(Event):
    """The circuit breaker of a pool changed state; while open, requests wait until `until` at least."""

    pool: str
    state: BreakerState
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingChanged(Event):
    """A pool has joined the group that shares its limits (``"shared"``), or cannot reach it (``"alone"``).

    `members` is how many there are, as far as is known, and `share` what is this executor's of the limits.
    `because` is why the group cannot be reached.
    """

    pool: str
    state: SharingState
    members: int
    share: float
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsStopped(Event):
    """Requests are refused because they would all fail the same way."""

    kind: FailureKind
    scope: Scope
    until: float
