"""Counts events, in plain dictionaries: the libraries for metrics take several times as long to count one.

They read the counts when they are asked for them, from any thread; so what is read is copied first.
"""

from collections.abc import Callable

from claude_executor.core.model import events as ev
from claude_executor.core.model.cost import Usage
from claude_executor.observe.names import (
    ANSWERED,
    ATTEMPTS,
    CANCELLED,
    COUNTED,
    DURATION,
    FAILURES,
    REQUESTS,
    TOKENS,
    WAIT,
    Key,
    Metric,
)

Timed = Callable[[Metric, Key, float], None]
"""Told of a number of seconds that belongs into a histogram."""


class Counts:
    """What has been counted so far. Call it with every event."""

    def __init__(self, timed: Timed) -> None:
        self._timed = timed
        self._counted: dict[Metric, dict[Key, int]] = {metric: {} for metric in COUNTED}
        self._requests = self._counted[REQUESTS]
        self._attempts = self._counted[ATTEMPTS]
        self._failures = self._counted[FAILURES]
        self._tokens = self._counted[TOKENS]

    def of(self, metric: Metric) -> dict[Key, int]:
        """The counts of one metric at this moment."""
        return self._counted[metric].copy()

    def __call__(self, event: ev.Event) -> None:
        """Count an event."""
        if isinstance(event, ev.AttemptStarted):
            key = (event.pool, event.model)
            _add(self._attempts, key, 1)
            if event.attempt == 1:
                self._timed(WAIT, key, event.queue_time)
        elif isinstance(event, ev.RequestAnswered):
            self._over(event, ANSWERED)
            self._used(event, event.usage)
        elif isinstance(event, ev.AttemptFailed):
            _add(self._failures, (event.pool, event.model, event.kind.value), 1)
            self._used(event, event.usage)
            if event.retry_in is None:
                self._over(event, event.kind.value)
        elif isinstance(event, ev.RequestRefused):
            self._over(event, event.reason)
        elif isinstance(event, ev.RequestCancelled):
            self._over(event, CANCELLED)
            self._used(event, event.usage)

    def _over(self, event: ev.RequestEvent, kind: str) -> None:
        key = (event.pool, event.model, kind)
        _add(self._requests, key, 1)
        self._timed(DURATION, key, event.at - event.submitted_at)

    def _used(self, event: ev.RequestEvent, usage: Usage | None) -> None:
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
