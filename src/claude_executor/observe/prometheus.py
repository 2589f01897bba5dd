"""Metrics for Prometheus: a collector that counts events and reads the state when it is scraped."""

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
from claude_executor.observe.counts import Counts
from claude_executor.observe.names import BOUNDARIES, Key, Metric
from claude_executor.observe.reading import Reading

_UNITS = {"s": "seconds", "1": "ratio"}
_EDGES = [*(str(edge) for edge in BOUNDARIES), "+Inf"]


class Prometheus(Collector):
    """A listener for ``Executor(on_event=…)``; see `to_prometheus`."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._counts = Counts(self._timed)
        self._reading = Reading()
        self._timings: dict[Metric, dict[Key, list[float]]] = {metric: {} for metric in names.TIMED}
        (registry or REGISTRY).register(self)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._counts(event)

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Read levels, lines and breakers off ``executor.snapshot`` at every scrape.

        Call it in the executor's event loop.
        """
        self._reading.watch(snapshot)

    def describe(self) -> Iterator[Family]:
        """The metrics, by whose names a registry notices that they are taken."""
        return self.collect()

    def collect(self) -> Iterator[Family]:
        """All metrics, with the values of this moment."""
        values = self._reading.values()
        for metric in names.COUNTED:
            yield _counter(metric, self._counts.of(metric))
        for metric in names.ACCUMULATED:
            yield _counter(metric, values.get(metric, {}))
        for metric in names.MEASURED:
            yield _gauge(metric, values.get(metric, {}))
        for metric in names.TIMED:
            yield _histogram(metric, self._timings[metric].copy())

    def _timed(self, metric: Metric, key: Key, seconds: float) -> None:
        timings = self._timings[metric]
        timing = timings.get(key)
        if timing is None:
            timing = timings[key] = [0.0] * (len(_EDGES) + 1)  # the last one is the sum
        timing[bisect_left(BOUNDARIES, seconds)] += 1.0
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
    return metric.name.replace(".", "_"), metric.says


def _labels(metric: Metric) -> list[str]:
    return [label.short for label in metric.labels]


def _unit(metric: Metric) -> str:
    return _UNITS.get(metric.unit, "")
