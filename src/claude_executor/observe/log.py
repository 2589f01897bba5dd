"""Events as lines of a log, with their fields as attributes of the record."""

import logging
import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType

from claude_executor.core.model import events as ev
from claude_executor.core.model.cost import Usage


def to_log(logger: logging.Logger | None = None, *, level: int = logging.DEBUG) -> Callable[[ev.Event], None]:
    """A listener for ``Executor(on_event=…)`` that writes a line for every event.

    What somebody should know has a level of its own: `INFO` for limits that were learned and for pools that
    were told to wait, `WARNING` for requests that failed for good and for a circuit breaker that opens,
    `ERROR` for what stops everything.

    Args:
        logger: Where to; by default the logger ``claude_executor``.
        level: The level of what is ordinary: a request that comes, attempts, retries, answers, refusals.
    """
    out = logger or logging.getLogger("claude_executor")

    def listen(event: ev.Event) -> None:
        severity = _severity(event) or level
        if out.isEnabledFor(severity):
            # Not `out.log`: it would search the stack for its caller, and find this line each time.
            record = out.makeRecord(
                out.name, severity, __file__, 0, "%s", (_Line(event),), None, func=None, extra=None
            )
            vars(record).update(_fields(event))
            out.handle(record)

    return listen


class _Line:
    """The text of a line, made only where somebody writes it."""

    __slots__ = ("_event",)

    def __init__(self, event: ev.Event) -> None:
        self._event = event

    def __str__(self) -> str:
        event = self._event
        text = _text(event)
        return (
            f"request {event.number} {text} ({event.model})" if isinstance(event, ev.RequestEvent) else text
        )


_SEVERITIES: Mapping[type[ev.Event], int] = MappingProxyType(
    {ev.PoolClosed: logging.INFO, ev.LimitLearned: logging.INFO, ev.RequestsStopped: logging.ERROR}
)


def _severity(event: ev.Event) -> int:
    """The level of what is not ordinary, otherwise 0."""
    if isinstance(event, ev.AttemptFailed):
        return logging.WARNING if event.retry_in is None else 0
    if isinstance(event, ev.BreakerChanged):
        return logging.WARNING if event.state == "open" else logging.INFO
    if isinstance(event, ev.SharingChanged):
        return logging.WARNING if event.state == "alone" else logging.INFO
    return _SEVERITIES.get(type(event), 0)


def _text(event: ev.Event) -> str:
    match event:
        case ev.RequestSubmitted():
            text = "submitted"
        case ev.AttemptStarted():
            held = f", held up by {event.held_by}" if event.held_by else ""
            text = f"sent, attempt {event.attempt}, after {event.queue_time:.3f} s{held}"
        case ev.RequestAnswered():
            text = f"answered in {event.duration:.3f} s, attempt {event.attempts}"
        case ev.AttemptFailed():
            status = f", HTTP {event.status}" if event.status is not None else ""
            again = "given up" if event.retry_in is None else f"again in {event.retry_in:.3f} s"
            text = f"failed, attempt {event.attempt}: {event.kind.value}{status}; {again}"
        case ev.RequestRefused():
            text = f"refused: {event.reason}"
        case ev.RequestCancelled():
            text = f"cancelled, attempts sent: {event.attempts}"
        case _:
            text = _text_of_pool(event)
    return text


def _text_of_pool(event: ev.Event) -> str:
    match event:
        case ev.PoolClosed():
            return f"pool {event.pool} waits {event.until - event.at:.3f} s: {event.kind.value}"
        case ev.LimitLearned():
            return f"pool {event.pool}: {event.limit:,.0f} {event.resource} a minute ({event.source})"
        case ev.BreakerChanged():
            pause = f", for {event.until - event.at:.3f} s at least" if event.until is not None else ""
            return f"pool {event.pool}: circuit breaker {event.state}{pause}"
        case ev.SharingChanged():
            part = f"{event.share:.0%} of the limits for one of {event.members}"
            why = f" ({event.reason})" if event.reason else ""
            return f"pool {event.pool}: {event.state}{why}, {part}"
        case ev.RequestsStopped():
            return f"no more is sent of {event.scope.value}: {event.kind.value}"
        case _:
            return type(event).__name__


def _fields(event: ev.Event) -> dict[str, object]:
    """The fields as JSON has them: enumerations by value, usage taken apart, nothing infinite."""
    kind = type(event)
    names, values = _reader(kind)
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


_Reader = tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]
_READERS: dict[type, _Reader] = {}


def _reader(kind: type[ev.Event]) -> _Reader:
    """The names of its fields, and what reads all of them at once."""
    reader = _READERS.get(kind)
    if reader is None:
        names = tuple(kind.__dataclass_fields__)
        reader = _READERS[kind] = names, attrgetter(*names)
    return reader
