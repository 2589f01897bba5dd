"""Prometheus metrics: a collector that counts events and reads the executor's state when scraped."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from claude_executor.core.model.events import Event
from claude_executor.core.model.snapshot import Snapshot
from claude_executor.observe import names
from claude_executor.observe.event_counters import EventCounters
from claude_executor.observe.names import BUCKET_BOUNDARIES, Key, Metric
from claude_executor.observe.snapshot_reader import SnapshotReader

_UNITS = {"s": "seconds", "1": "ratio"}
_EDGES = [*(str(edge) for edge in BUCKET_BOUNDARIES), "+Inf"]


class Prometheus(Collector):
    """A listener for ``Executor(on_event=…)`` and a collector of metrics; see `to_prometheus`."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        """Register with `registry`, or with prometheus_client's own if None."""
        self._counters = EventCounters(self._record_duration)
        self._snapshots = SnapshotReader()
        self._timings: dict[Metric, dict[Key, list[float]]] = {metric: {} for metric in names.HISTOGRAMS}
        (registry or REGISTRY).register(self)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._counters(event)

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Add levels, queues and circuit breakers to the metrics, read from a snapshot at every scrape.

        Call this in the executor's event loop.

        Args:
            snapshot: The method ``executor.snapshot``.

        Raises:
            RuntimeError: No event loop is running.
        """
        self._snapshots.watch(snapshot)

    def describe(self) -> Iterator[Family]:
        """Yield the metrics, so that a registry can detect duplicate names."""
        return self.collect()

    def collect(self) -> Iterator[Family]:
        """Yield all metrics with their current values."""
        values = self._snapshots.metrics()
        for metric in names.EVENT_COUNTERS:
            yield _counter(metric, self._counters.counts(metric))
        for metric in names.SNAPSHOT_COUNTERS:
            yield _counter(metric, values.get(metric, {}))
        for metric in names.GAUGES:
            yield _gauge(metric, values.get(metric, {}))
        for metric in names.HISTOGRAMS:
            yield _histogram(metric, self._timings[metric].copy())

    def _record_duration(self, metric: Metric, key: Key, seconds: float) -> None:
        timings = self._timings[metric]
        timing = timings.get(key)
        if timing is None:
            timing = timings[key] = [0.0] * (len(_EDGES) + 1)  # the last element is the sum
        timing[bisect_left(BUCKET_BOUNDARIES, seconds)] += 1.0
        timing[-1] += seconds


def _counter(metric: Metric, values: Mapping[Key, float]) -> Family:
    family = CounterMetricFamily(*_named(metric), labels=_labels(metric), unit=_unit(metric))
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(metric: Metric, values: Mapping[Key, float]) -> Family:
    family = GaugeMetricFamily(*_named(metric), labels=_labels(metric), unit=_unit(metric))
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(metric: Metric, timings: Mapping[Key, list[float]]) -> Family:
    family = HistogramMetricFamily(*_named(metric), labels=_labels(metric), unit=_unit(metric))
    for key, timing in timings.items():
        *counts, total = timing.copy()
        family.add_metric(key, list(zip(_EDGES, accumulate(counts), strict=True)), total)
    return family


def _named(metric: Metric) -> tuple[str, str]:
    return metric.name.replace(".", "_"), metric.description


def _labels(metric: Metric) -> list[str]:
    return [label.prometheus_name for label in metric.labels]


def _unit(metric: Metric) -> str:
    return _UNITS.get(metric.unit, "")
