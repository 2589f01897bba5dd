"""OpenTelemetry spans and metrics of one executor."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from claude_executor.core.model.events import Event
from claude_executor.core.model.snapshot import Snapshot
from claude_executor.observe import names
from claude_executor.observe.event_counters import EventCounters
from claude_executor.observe.names import Key, Metric
from claude_executor.observe.snapshot_reader import SnapshotReader
from claude_executor.observe.spans import Spans

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import TracerProvider


class OpenTelemetry:
    """A listener for ``Executor(on_event=…)`` that records spans and metrics; see `to_opentelemetry`."""

    def __init__(self, traces: "TracerProvider | None", meters: "MeterProvider | None") -> None:
        """Record with these providers, or with the registered ones if None."""
        self._spans = Spans(traces)
        self._counters = EventCounters(self._record_duration)
        self._snapshots = SnapshotReader()
        meter = metrics.get_meter("claude_executor", version("claude-executor"), meters)
        self._histograms: dict[Metric, Histogram] = {
            metric: meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.description,
                explicit_bucket_boundaries_advisory=names.BUCKET_BOUNDARIES,
            )
            for metric in names.HISTOGRAMS
        }
        self._create_instruments(meter)

    def __call__(self, event: Event) -> None:
        """Record an event."""
        self._spans(event)
        self._counters(event)

    def attempt_context(self, number: int) -> AbstractContextManager[None]:
        """Make the SDK's spans children of the request's; pass this to ``Executor(attempt_context=…)``."""
        return self._spans.attempt_context(number)

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Add levels, queues and circuit breakers to the metrics, read from a snapshot at every collection.

        Call this in the executor's event loop.

        Args:
            snapshot: The method ``executor.snapshot``.

        Raises:
            RuntimeError: No event loop is running.
        """
        self._snapshots.watch(snapshot)

    def _record_duration(self, metric: Metric, key: Key, seconds: float) -> None:
        self._histograms[metric].record(seconds, _labels_of(metric, key))

    def _create_instruments(self, meter: "Meter") -> None:
        counters = [(m, partial(self._event_counts, m)) for m in names.EVENT_COUNTERS]
        counters += [(m, partial(self._snapshot_metrics, m)) for m in names.SNAPSHOT_COUNTERS]
        for metric, callback in counters:
            meter.create_observable_counter(metric.name, [callback], metric.unit, metric.description)
        for metric in names.GAUGES:
            callback = partial(self._snapshot_metrics, metric)
            meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)

    def _event_counts(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        return _observations(metric, self._counters.counts(metric))

    def _snapshot_metrics(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        return _observations(metric, self._snapshots.metrics().get(metric, {}))


def _observations(metric: Metric, values: Mapping[Key, float]) -> list[Observation]:
    return [Observation(value, _labels_of(metric, key)) for key, value in values.items()]


@cache
def _labels_of(metric: Metric, key: Key) -> dict[str, str]:
    return {label.value: value for label, value in zip(metric.labels, key, strict=True)}
