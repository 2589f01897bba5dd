"""OpenTelemetry spans: one for each request, covering its wait and all its attempts.

The SDK creates a span of its own for each call. Inside `Spans.attempt_context`, that span becomes a child of
the request's span.
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
OUTCOME = "claude_executor.outcome"
FAILURE = "claude_executor.attempt.failed"
STATUS = "http.response.status_code"
REQUEST_ID = "anthropic.request.id"
ERROR = "error.type"


class _RequestSpan:
    """The open span of a request, and the attributes it gets when it ends."""

    __slots__ = ("attempts", "held_by", "retries", "span", "wait")

    def __init__(self, span: "Span") -> None:
        self.span = span
        self.attempts = 0
        self.wait: float | None = None
        self.held_by: str | None = None
        self.retries: list[str] = []


class Spans:
    """Creates the spans of one executor's requests. Call the instance with every event."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self._tracer = trace.get_tracer("claude_executor", version("claude-executor"), provider)
        self._open: dict[int, _RequestSpan] = {}

    def __call__(self, event: ev.Event) -> None:
        """Start, update or end the span of the event's request."""
        if isinstance(event, ev.RequestSubmitted):
            attributes = {POOL: event.pool, MODEL: event.model}
            if event.tenant:
                attributes[TENANT] = event.tenant
            self._open[event.number] = _RequestSpan(self._tracer.start_span(NAME, attributes=attributes))
        elif isinstance(event, ev.RequestEvent) and (request := self._open.get(event.number)) is not None:
            self._update(request, event)

    @contextmanager
    def attempt_context(self, number: int) -> Generator[None]:
        """Make the request's span the current one."""
        request = self._open.get(number)
        if request is None:
            yield
            return
        # Exceptions here are the caller's, such as a cancellation; the events say how the request ended.
        with trace.use_span(request.span, record_exception=False, set_status_on_exception=False):
            yield

    def _update(self, request: _RequestSpan, event: ev.RequestEvent) -> None:
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

    def _end(self, request: _RequestSpan, number: int, outcome: str, error: str | None = None) -> None:
        del self._open[number]
        span = request.span
        if span.is_recording():
            attributes: dict[str, AttributeValue] = {OUTCOME: outcome, ATTEMPTS: request.attempts}
            if request.wait is not None:
                attributes[WAIT] = request.wait
            if request.held_by is not None:
                attributes[HELD_BY] = request.held_by
            if request.retries:
                attributes[RETRIES] = request.retries
            if error is not None:
                attributes[ERROR] = error
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(attributes)  # all at once: each call takes a lock
        span.end()


def _attributes_of(event: ev.AttemptFailed) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float | None] = {
        KIND: event.kind.value,
        STATUS: event.status,
        REQUEST_ID: event.request_id,
        "claude_executor.attempt": event.attempt,
        "claude_executor.retry.in": event.retry_in,
    }
    return {name: value for name, value in attributes.items() if value is not None}
