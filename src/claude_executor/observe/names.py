"""What the metrics are called, what they count and which labels they have: the same for every system.

Labels take few values: pools, models, kinds and resources. Tenants and request ids would make as many series
as there are users; they are for spans and logs.
"""

from dataclasses import dataclass
from enum import StrEnum


class Label(StrEnum):
    """A label of a metric, or an attribute of a span, by its name in OpenTelemetry."""

    POOL = "claude_executor.pool"
    MODEL = "gen_ai.request.model"
    KIND = "claude_executor.kind"
    RESOURCE = "claude_executor.resource"

    @property
    def short(self) -> str:
        """Its name in Prometheus."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)  # looked up by identity, with every event
class Metric:
    """A metric by its name in OpenTelemetry, its unit in UCUM, its labels, and what it says."""

    name: str
    unit: str
    labels: tuple[Label, ...]
    says: str


Key = tuple[str, ...]
"""The values of a metric's labels, in their order."""

_MODEL = (Label.POOL, Label.MODEL)
_KIND = (Label.POOL, Label.MODEL, Label.KIND)
_RESOURCE = (Label.POOL, Label.RESOURCE)

REQUESTS = Metric(
    "claude_executor.requests", "{request}", _KIND,
    "Requests that are over, by what became of them: answered, cancelled, or why they failed or were refused",
)  # fmt: skip
ATTEMPTS = Metric("claude_executor.attempts", "{attempt}", _MODEL, "Attempts sent")
FAILURES = Metric("claude_executor.failures", "{attempt}", _KIND, "Attempts that failed, by what went wrong")
TOKENS = Metric(
    "claude_executor.tokens", "{token}", _KIND,
    "Tokens used, by kind: input, output, cache_creation, cache_read",
)  # fmt: skip
WAIT = Metric("claude_executor.queue.wait", "s", _MODEL, "Time from submitting to the first attempt")
DURATION = Metric("claude_executor.request.duration", "s", _KIND, "Time from submitting to the end")
HELD = Metric(
    "claude_executor.queue.held", "s", (Label.POOL, Label.KIND),
    "Time for which the line was held up, by what: a resource, concurrency, circuit breaker, …",
)  # fmt: skip
QUEUED = Metric("claude_executor.queued", "{request}", (Label.POOL,), "Requests in line")
RUNNING = Metric("claude_executor.running", "{request}", (Label.POOL,), "Requests in flight")
PARKED = Metric("claude_executor.waiting_to_retry", "{request}", (), "Requests whose next attempt is not due")
CONCURRENCY = Metric(
    "claude_executor.concurrency", "{request}", (Label.POOL,), "Requests that may be in flight now"
)
BREAKER = Metric(
    "claude_executor.breaker.state", "", (Label.POOL,), "Circuit breaker: 0 closed, 1 half-open, 2 open"
)
LIMIT = Metric("claude_executor.limit", "", _RESOURCE, "Limit in force, in amounts a minute")
LEVEL = Metric("claude_executor.limit.level", "", _RESOURCE, "What the bucket holds; negative in debt")
UTILIZATION = Metric(
    "claude_executor.limit.utilization", "1", _RESOURCE, "Share of the limit used in the last minute"
)

COUNTED = (REQUESTS, ATTEMPTS, FAILURES, TOKENS)
"""Counters kept from events."""
TIMED = (WAIT, DURATION)
"""Histograms kept from events."""
ACCUMULATED = (HELD,)
"""Counters read off a snapshot."""
MEASURED = (QUEUED, RUNNING, PARKED, CONCURRENCY, BREAKER, LIMIT, LEVEL, UTILIZATION)
"""Gauges read off a snapshot."""

BOUNDARIES = (0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0)
"""Seconds. An answer takes from half a second to ten minutes; a wait for an outage, an hour."""

ANSWERED = "answered"
CANCELLED = "cancelled"
"""What became of a request that neither failed nor was refused."""
