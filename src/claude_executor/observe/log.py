"""Log records of events, with the events' fields as attributes of the record."""

import logging
import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType

from claude_executor.core.model import events as ev
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.gate import BreakerState
from claude_executor.core.model.sharing import SharingState


def to_log(logger: logging.Logger | None = None, *, level: int = logging.DEBUG) -> Callable[[ev.Event], None]:
    """Create a listener for ``Executor(on_event=…)`` that logs every event.

    Routine events (requests submitted, attempts, retries, responses, refusals) use `level`. The others have a
    level of their own: `INFO` for learned limits and for pools closed by a 429, `WARNING` for requests that
    failed permanently and for a circuit breaker that opens, `ERROR` when all requests are stopped.

    Args:
        logger: The logger to write to; by default ``claude_executor``.
        level: The level of routine events.
    """
    out = logger or logging.getLogger("claude_executor")

    def listen(event: ev.Event) -> None:
        severity = _own_level(event) or level
        if out.isEnabledFor(severity):
            # Not `out.log`, which would search the stack for its caller and always find this line.
            record = out.makeRecord(
                out.name, severity, __file__, 0, "%s", (_LazyMessage(event),), None, func=None, extra=None
            )
            vars(record).update(_fields(event))
            out.handle(record)

    return listen


class _LazyMessage:
    """The text of a record, built only if a handler formats it."""

    __slots__ = ("_event",)

    def __init__(self, event: ev.Event) -> None:
        self._event = event

    def __str__(self) -> str:
        event = self._event
        text = _text(event)
        return (
            f"request {event.number} {text} ({event.model})" if isinstance(event, ev.RequestEvent) else text
        )


_OWN_LEVELS: Mapping[type[ev.Event], int] = MappingProxyType(
    {ev.PoolClosed: logging.INFO, ev.LimitLearned: logging.INFO, ev.RequestsStopped: logging.ERROR}
)


def _own_level(event: ev.Event) -> int:
    """Return the level of an event that is not routine; 0 for routine events."""
    if isinstance(event, ev.AttemptFailed):
        return logging.WARNING if event.retry_in is None else 0
    if isinstance(event, ev.BreakerChanged):
        return logging.WARNING if event.state == BreakerState.OPEN else logging.INFO
    if isinstance(event, ev.SharingChanged):
        return logging.WARNING if event.state == SharingState.ALONE else logging.INFO
    return _OWN_LEVELS.get(type(event), 0)


def _text(event: ev.Event) -> str:
    match event:
        case ev.RequestSubmitted():
            text = "submitted"
        case ev.AttemptStarted():
            held = f" (held up by {event.held_by})" if event.held_by else ""
            text = f"sent after {event.queue_time:.3f} s{held}, attempt {event.attempt}"
        case ev.RequestAnswered():
            text = f"answered in {event.duration:.3f} s, attempt {event.attempts}"
        case ev.AttemptFailed():
            status = f", HTTP {event.status}" if event.status is not None else ""
            then = "not retried" if event.retry_in is None else f"retry in {event.retry_in:.3f} s"
            text = f"failed, attempt {event.attempt}: {event.kind.value}{status}; {then}"
        case ev.RequestRefused():
            text = f"refused: {event.reason}"
        case ev.RequestCancelled():
            text = f"cancelled, attempts: {event.attempts}"
        case _:
            text = _text_of_pool_event(event)
    return text


def _text_of_pool_event(event: ev.Event) -> str:
    match event:
        case ev.PoolClosed():
            return f"pool {event.pool} closed for {event.until - event.at:.3f} s: {event.kind.value}"
        case ev.LimitLearned():
            return f"pool {event.pool}: limit {event.limit:,.0f} {event.resource} per minute ({event.source})"
        case ev.BreakerChanged():
            pause = f" for at least {event.until - event.at:.3f} s" if event.until is not None else ""
            return f"pool {event.pool}: circuit breaker {event.state}{pause}"
        case ev.SharingChanged():
            part = f"share of the limits {event.share:.0%}, members {event.members}"
            why = f" ({event.reason})" if event.reason else ""
            return f"pool {event.pool}: {event.state}{why}, {part}"
        case ev.RequestsStopped():
            return f"stopped sending {event.scope.value}: {event.kind.value}"
        case _:
            return type(event).__name__


def _fields(event: ev.Event) -> dict[str, object]:
    """Return the event's fields ready for JSON: enums by value, usage flattened, infinity as None."""
    kind = type(event)
    names, values = _field_reader(kind)
    fields: dict[str, object] = dict(zip(names, values(event), strict=True))
    fields["event"] = kind.__name__
    usage = fields.pop("usage", None)
    if isinstance(usage, Usage):
        fields.update(usage._asdict())
    if isinstance(event, ev.RequestsStopped):
        fields["scope"] = event.scope.value
    if fields.get("until") == math.inf:
        fields["until"] = None
    return fields


_FieldReader = tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]
_FIELD_READERS: dict[type, _FieldReader] = {}


def _field_reader(kind: type[ev.Event]) -> _FieldReader:
    """Return the names of an event class's fields, and a function that reads them all at once."""
    reader = _FIELD_READERS.get(kind)
    if reader is None:
        names = tuple(kind.__dataclass_fields__)
        reader = _FIELD_READERS[kind] = names, attrgetter(*names)
    return reader
