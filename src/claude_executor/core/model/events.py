"""Events of an executor, as plain values. No event contains a prompt, an answer or a key."""

from dataclasses import dataclass

from claude_executor.core.model.actions import Refusal
from claude_executor.core.model.cost import Resource, Usage
from claude_executor.core.model.failure import FailureKind, Scope
from claude_executor.core.model.gate import BreakerState, HeldBy
from claude_executor.core.model.limits import LimitSource
from claude_executor.core.model.sharing import SharingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of everything that an executor reports.

    Attributes:
        at: The instant, in seconds on the executor's clock.
    """

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent(Event):
    """Base of the events of one request.

    Every request begins with `RequestSubmitted` and ends with exactly one of `RequestAnswered`,
    `RequestRefused`, `RequestCancelled`, or an `AttemptFailed` without a retry.

    Attributes:
        number: Number of the request, in order of arrival.
        pool: The pool of its model.
        model: The model it asks.
        tenant: The tenant it belongs to.
        submitted_at: The instant at which it was submitted.
    """

    number: int
    pool: str
    model: str
    tenant: str
    submitted_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSubmitted(RequestEvent):
    """A request was submitted. Emitted in the caller's own context, before `submit` waits for anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(RequestEvent):
    """An attempt is sent.

    Attributes:
        attempt: Number of the attempt, from 1.
        queue_time: Seconds since the request was submitted.
        held_by: What held the queue back before the attempt started; None if nothing did.
    """

    attempt: int
    queue_time: float
    held_by: HeldBy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(RequestEvent):
    """A request succeeded.

    Attributes:
        attempts: Attempts made.
        queue_time: Seconds from the submission to the start of the last attempt.
        duration: Seconds from the start of the last attempt to the end of its answer.
        usage: Real use of the answer; None if it did not say.
    """

    attempts: int
    queue_time: float
    duration: float
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(RequestEvent):
    """An attempt failed.

    Attributes:
        attempt: Number of the attempt, from 1.
        kind: The kind of failure.
        status: HTTP status; None without a response.
        request_id: The API's id of the exchange; None if it gave none.
        retry_in: Seconds until the retry is due; None if there is no retry.
        usage: Tokens that the attempt used all the same; None if that is not known.
    """

    attempt: int
    kind: FailureKind
    status: int | None
    request_id: str | None
    retry_in: float | None
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(RequestEvent):
    """A request was refused without another attempt.

    Attributes:
        reason: The reason.
    """

    reason: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancelled(RequestEvent):
    """A request was cancelled by its caller.

    Attributes:
        attempts: Attempts made.
        usage: Tokens that the last attempt used; None if that is not known.
    """

    attempts: int
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClosed(Event):
    """A 429 closed a pool.

    Attributes:
        pool: The closed pool.
        kind: The kind of failure.
        until: The instant at which the pool opens again.
    """

    pool: str
    kind: FailureKind
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLearned(Event):
    """The limit in force for a resource changed.

    Attributes:
        pool: The pool the limit applies to.
        resource: The limited resource.
        limit: The new limit, per minute.
        source: Where the new limit comes from.
    """

    pool: str
    resource: Resource
    limit: float
    source: LimitSource


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged(Event):
    """The circuit breaker of a pool changed state.

    Attributes:
        pool: The pool of the breaker.
        state: The new state.
        until: Earliest instant of the next request while the breaker is open; None otherwise.
    """

    pool: str
    state: BreakerState
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingChanged(Event):
    """A pool joined the group that shares its limits, or lost contact with it.

    Attributes:
        pool: The pool whose limits are shared.
        state: ``"shared"``, or ``"alone"`` while the group is unreachable.
        members: Members of the group, as far as known.
        share: This executor's fraction of the limits.
        reason: Why the group is unreachable; None if it is not.
    """

    pool: str
    state: SharingState
    members: int
    share: float
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsStopped(Event):
    """Requests are refused unsent because they would all fail the same way.

    Attributes:
        kind: The kind of failure.
        scope: Which requests are refused.
        until: The instant at which requests are sent again.
    """

    kind: FailureKind
    scope: Scope
    until: float
