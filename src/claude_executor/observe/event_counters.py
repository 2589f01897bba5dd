"""Event counters in plain dictionaries, several times as fast as those of the metrics libraries.

The libraries read the counts when they collect, from any thread, so each read gets a copy.
"""

from collections.abc import Callable

from claude_executor.core.model import events as ev
from claude_executor.core.model.cost import Usage
from claude_executor.observe.names import (
    ANSWERED,
    ATTEMPTS,
    CANCELLED,
    DURATION,
    EVENT_COUNTERS,
    FAILURES,
    QUEUE_WAIT,
    REQUESTS,
    TOKENS,
    Key,
    Metric,
)

RecordDuration = Callable[[Metric, Key, float], None]
"""Called with a metric, the values of its labels and a duration in seconds, for a histogram."""


class EventCounters:
    """Counts by metric and label values. Call the instance with every event."""

    def __init__(self, record: RecordDuration) -> None:
        """Start at zero. `record` is called with each duration."""
        self._record = record
        self._counts: dict[Metric, dict[Key, int]] = {metric: {} for metric in EVENT_COUNTERS}
        self._requests = self._counts[REQUESTS]
        self._attempts = self._counts[ATTEMPTS]
        self._failures = self._counts[FAILURES]
        self._tokens = self._counts[TOKENS]

    def counts(self, metric: Metric) -> dict[Key, int]:
        """Return a copy of the current counts of one metric."""
        return self._counts[metric].copy()

    def __call__(self, event: ev.Event) -> None:
        """Count an event."""
        if isinstance(event, ev.AttemptStarted):
            key = (event.pool, event.model)
            _add(self._attempts, key, 1)
            if event.attempt == 1:
                self._record(QUEUE_WAIT, key, event.queue_time)
        elif isinstance(event, ev.RequestAnswered):
            self._count_request(event, ANSWERED)
            self._count_tokens(event, event.usage)
        elif isinstance(event, ev.AttemptFailed):
            _add(self._failures, (event.pool, event.model, event.kind.value), 1)
            self._count_tokens(event, event.usage)
            if event.retry_in is None:
                self._count_request(event, event.kind.value)
        elif isinstance(event, ev.RequestRefused):
            self._count_request(event, event.reason)
        elif isinstance(event, ev.RequestCancelled):
            self._count_request(event, CANCELLED)
            self._count_tokens(event, event.usage)

    def _count_request(self, event: ev.RequestEvent, kind: str) -> None:
        key = (event.pool, event.model, kind)
        _add(self._requests, key, 1)
        self._record(DURATION, key, event.at - event.submitted_at)

    def _count_tokens(self, event: ev.RequestEvent, usage: Usage | None) -> None:
        if usage is None:
            return
        pool, model, tokens = event.pool, event.model, self._tokens
        if usage.input_tokens:
            _add(tokens, (pool, model, "input"), usage.input_tokens)
        if usage.output_tokens:
            _add(tokens, (pool, model, "output"), usage.output_tokens)
        if usage.cache_creation_tokens:
            _add(tokens, (pool, model, "cache_creation"), usage.cache_creation_tokens)
        if usage.cache_read_tokens:
            _add(tokens, (pool, model, "cache_read"), usage.cache_read_tokens)


def _add(counts: dict[Key, int], key: Key, amount: int) -> None:
    counts[key] = counts.get(key, 0) + amount
