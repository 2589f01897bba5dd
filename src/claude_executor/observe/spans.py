"""A span of OpenTelemetry for every request, over its waiting and all its attempts.

The SDK makes a span of its own for every call; made within `Spans.attempt_context` it is a child of the request's.
"""

from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from claude_executor.core.model import events as ev
from claude_executor.observe.names import ANSWERED, CANCELLED, Label

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

NAME = "claude_executor.request"
POOL, MODEL, KIND = Label.POOL.value, Label.MODEL.value, Label.KIND.value
TENANT = "claude_executor.tenant"
WAIT = "claude_executor.queue.wait"
HELD_BY = "claude_executor.queue.held_by"
ATTEMPTS = "claude_executor.attempts"
RETRIES = "claude_executor.retry.kinds"
OUTCOME = "claude_executor.sdk.outcome"
FAILURE = "claude_executor.attempt.failed"
STATUS = "http.response.status_code"
REQUEST_ID = "anthropic.request.id"
ERROR = "error.type"


class _Open:
    """The span of a request that is not over, and what is to be said of it in the end."""

    __slots__ = ("attempts", "held_by", "retries", "span", "wait")

    def __init__(self, span: "Span") -> None:
        self.span = span
        self.attempts = 0
        self.wait: float | None = None
        self.held_by: str | None = None
        self.retries: list[str] = []


class Spans:
    """Makes the spans of one executor's requests. Call it with every event."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self._tracer = trace.get_tracer("claude_executor", version("claude-executor"), provider)
        self._open: dict[int, _Open] = {}

    def __call__(self, event: ev.Event) -> None:
        """Begin, continue or end the span of a request."""
        if isinstance(event, ev.RequestSubmitted):
            attributes = {POOL: event.pool, MODEL: event.model}
            if event.tenant:
                attributes[TENANT] = event.tenant
            self._open[event.number] = _Open(self._tracer.start_span(NAME, attributes=attributes))
        elif isinstance(event, ev.RequestEvent) and (request := self._open.get(event.number)) is not None:
            self._went_on(request, event)

    @contextmanager
    def attempt_context(self, number: int) -> Generator[None]:
        """Make the span of a request the current one."""
        request = self._open.get(number)
        if request is None:
            yield
            return
        # What is raised meanwhile is the caller's own business, such as a cancellation.
        with trace.use_span(request.span, record_exception=False, set_status_on_exception=False):
            yield

    def _went_on(self, request: _Open, event: ev.RequestEvent) -> None:
        if isinstance(event, ev.AttemptStarted):
            request.attempts = event.attempt
            if request.wait is None:
                request.wait, request.held_by = event.queue_time, event.held_by
        elif isinstance(event, ev.RequestAnswered):
            self._end(request, event.number, ANSWERED)
        elif isinstance(event, ev.AttemptFailed):
            request.span.add_event(FAILURE, _attributes_of(event))
            if event.retry_in is None:
                self._end(request, event.number, "failed", event.kind.value)
            else:
                request.retries.append(event.kind.value)
        elif isinstance(event, ev.RequestRefused):
            self._end(request, event.number, "refused", event.reason)
        elif isinstance(event, ev.RequestCancelled):
            self._end(request, event.number, CANCELLED)

    def _end(self, request: _Open, number: int, outcome: str, error: str | None = None) -> None:
        del self._open[number]
        span = request.span
        if span.is_recording():
            said: dict[str, AttributeValue] = {OUTCOME: outcome, ATTEMPTS: request.attempts}
            if request.wait is not None:
                said[WAIT] = request.wait
            if request.held_by is not None:
                said[HELD_BY] = request.held_by
            if request.retries:
                said[RETRIES] = request.retries
            if error is not None:
                said[ERROR] = error
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(said)  # together: each call takes a lock
        span.end()


def _attributes_of(event: ev.AttemptFailed) -> dict[str, str | int | float]:
    known: dict[str, str | int | float | None] = {
        KIND: event.kind.value,
        STATUS: event.status,
        REQUEST_ID: event.request_id,
        "claude_executor.attempt": event.attempt,
        "claude_executor.retry.in": event.retry_in,
    }
    return {name: value for name, value in known.items() if value is not None}
