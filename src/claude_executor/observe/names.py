"""Names, units, labels and descriptions of the metrics, the same for OpenTelemetry and Prometheus.

Labels have few values: pools, models, kinds and resources. Tenants and request IDs would create one series
per user, so they appear only in spans and logs.
"""

from dataclasses import dataclass
from enum import StrEnum


class Label(StrEnum):
    """A label of a metric or an attribute of a span. The value is its OpenTelemetry name."""

    POOL = "claude_executor.pool"
    MODEL = "gen_ai.request.model"
    KIND = "claude_executor.kind"
    RESOURCE = "claude_executor.resource"

    @property
    def prometheus_name(self) -> str:
        """The label's name in Prometheus."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, which keeps lookups fast
class Metric:
    """A metric.

    Attributes:
        name: The OpenTelemetry name.
        unit: The unit in UCUM notation.
        labels: The labels, in the order of a `Key`.
        description: One line for people.
    """

    name: str
    unit: str
    labels: tuple[Label, ...]
    description: str


Key = tuple[str, ...]
"""The values of a metric's labels, in the order of `Metric.labels`."""

_MODEL = (Label.POOL, Label.MODEL)
_KIND = (Label.POOL, Label.MODEL, Label.KIND)
_RESOURCE = (Label.POOL, Label.RESOURCE)

REQUESTS = Metric(
    "claude_executor.requests", "{request}", _KIND,
    "Finished requests by outcome: answered, cancelled, or why they failed or were refused",
)  # fmt: skip
ATTEMPTS = Metric("claude_executor.attempts", "{attempt}", _MODEL, "Attempts sent")
FAILURES = Metric("claude_executor.failures", "{attempt}", _KIND, "Failed attempts, by kind of failure")
TOKENS = Metric(
    "claude_executor.tokens", "{token}", _KIND,
    "Tokens used, by kind: input, output, cache_creation, cache_read",
)  # fmt: skip
QUEUE_WAIT = Metric("claude_executor.queue.wait", "s", _MODEL, "Time from submission to the first attempt")
DURATION = Metric("claude_executor.request.duration", "s", _KIND, "Time from submission to the end")
QUEUE_HELD = Metric(
    "claude_executor.queue.held", "s", (Label.POOL, Label.KIND),
    "Time for which the queue was held up, by cause: a resource, concurrency, circuit breaker, …",
)  # fmt: skip
QUEUED = Metric("claude_executor.queued", "{request}", (Label.POOL,), "Requests in the queue")
RUNNING = Metric("claude_executor.running", "{request}", (Label.POOL,), "Requests in flight")
WAITING_TO_RETRY = Metric(
    "claude_executor.waiting_to_retry", "{request}", (), "Requests waiting before a retry"
)
CONCURRENCY = Metric(
    "claude_executor.concurrency", "{request}", (Label.POOL,), "Current limit on requests in flight"
)
BREAKER = Metric(
    "claude_executor.breaker.state", "", (Label.POOL,), "Circuit breaker: 0 closed, 1 half-open, 2 open"
)
LIMIT = Metric("claude_executor.limit", "", _RESOURCE, "Current limit, per minute")
LEVEL = Metric("claude_executor.limit.level", "", _RESOURCE, "Level of the token bucket; negative in debt")
UTILIZATION = Metric(
    "claude_executor.limit.utilization", "1", _RESOURCE, "Fraction of the limit used in the last minute"
)

EVENT_COUNTERS = (REQUESTS, ATTEMPTS, FAILURES, TOKENS)
"""Counters of events."""
HISTOGRAMS = (QUEUE_WAIT, DURATION)
"""Histograms of durations in events."""
SNAPSHOT_COUNTERS = (QUEUE_HELD,)
"""Counters read from a snapshot."""
GAUGES = (QUEUED, RUNNING, WAITING_TO_RETRY, CONCURRENCY, BREAKER, LIMIT, LEVEL, UTILIZATION)
"""Gauges read from a snapshot."""

BUCKET_BOUNDARIES = (
    0.01,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1_800.0,
    3_600.0,
)
"""Bucket edges of the histograms, in seconds. Responses take from half a second to ten minutes; an outage may
last an hour."""

ANSWERED = "answered"
CANCELLED = "cancelled"
"""Outcomes of requests that neither failed nor were refused."""
