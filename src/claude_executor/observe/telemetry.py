"""Spans and metrics by OpenTelemetry, for one executor."""

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
from claude_executor.observe.counts import Counts
from claude_executor.observe.names import Key, Metric
from claude_executor.observe.reading import Reading
from claude_executor.observe.spans import Spans

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import TracerProvider


class OpenTelemetry:
    """A listener for ``Executor(on_event=…)``; see `to_opentelemetry`."""

    def __init__(self, traces: "TracerProvider | None", meters: "MeterProvider | None") -> None:
        self._spans = Spans(traces)
        self._counts = Counts(self._timed)
        self._reading = Reading()
        meter = metrics.get_meter("claude_executor", version("claude-executor"), meters)
        self._histograms: dict[Metric, Histogram] = {
            metric: meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.says,
                explicit_bucket_boundaries_advisory=names.BOUNDARIES,
            )
            for metric in names.TIMED
        }
        self._observe(meter)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        self._spans(event)
        self._counts(event)

    def attempt_context(self, number: int) -> AbstractContextManager[None]:
        """For ``Executor(around=…)``: the SDK's spans become children of the request's."""
        return self._spans.attempt_context(number)

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Read levels, lines and breakers off ``executor.snapshot`` whenever metrics are collected.

        Call it in the executor's event loop.
        """
        self._reading.watch(snapshot)

    def _timed(self, metric: Metric, key: Key, seconds: float) -> None:
        self._histograms[metric].record(seconds, _attributes(metric, key))

    def _observe(self, meter: "Meter") -> None:
        counters = [(m, partial(self._counted, m)) for m in names.COUNTED]
        counters += [(m, partial(self._read, m)) for m in names.ACCUMULATED]
        for metric, callback in counters:
            meter.create_observable_counter(metric.name, [callback], metric.unit, metric.says)
        for metric in names.MEASURED:
            callback = partial(self._read, metric)
            meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.says)

    def _counted(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        return _observations(metric, self._counts.of(metric))

    def _read(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        return _observations(metric, self._reading.values().get(metric, {}))


def _observations(metric: Metric, values: Mapping[Key, float]) -> list[Observation]:
    return [Observation(value, _attributes(metric, key)) for key, value in values.items()]


@cache
def _attributes(metric: Metric, key: Key) -> dict[str, str]:
    return {label.value: value for label, value in zip(metric.labels, key, strict=True)}
