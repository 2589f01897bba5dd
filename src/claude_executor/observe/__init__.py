"""Listeners for ``Executor(on_event=…)``: logging, OpenTelemetry, Prometheus, or several at once.

Listeners see only events and snapshots, which contain no prompt, no response and no API key. Create one
listener for each executor::

    telemetry = observe.to_opentelemetry()
    listen = observe.all_of(observe.to_log(), telemetry)
    async with Executor(on_event=listen, attempt_context=telemetry.attempt_context) as executor:
        telemetry.watch(executor.snapshot)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from claude_executor.core.model.events import Event
from claude_executor.observe.log import to_log

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

    from claude_executor.observe.prometheus import Prometheus
    from claude_executor.observe.telemetry import OpenTelemetry

__all__ = ["all_of", "to_log", "to_opentelemetry", "to_prometheus"]


def all_of(*listeners: Callable[[Event], None]) -> Callable[[Event], None]:
    """Combine several listeners into one.

    Every listener gets every event, even if another one raises. Exceptions are raised afterwards, so that the
    executor reports them like those of a single listener: one as it is, several as an `ExceptionGroup`.
    """

    def listen(event: Event) -> None:
        errors: list[Exception] = []
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:  # third-party code may raise anything
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("several listeners raised exceptions", errors)

    return listen


def to_opentelemetry(
    *, tracer_provider: "TracerProvider | None" = None, meter_provider: "MeterProvider | None" = None
) -> "OpenTelemetry":
    """Create a listener that records a span for each request, and metrics.

    Pass its `attempt_context` to ``Executor(attempt_context=…)`` and ``executor.snapshot`` to its `watch`.

    Args:
        tracer_provider: Where spans go; by default the provider registered with OpenTelemetry.
        meter_provider: Where metrics go; by default the provider registered with OpenTelemetry.
    """
    from claude_executor.observe.telemetry import OpenTelemetry

    return OpenTelemetry(tracer_provider, meter_provider)


def to_prometheus(registry: "CollectorRegistry | None" = None) -> "Prometheus":
    """Create a listener that is also a collector of Prometheus metrics.

    Pass ``executor.snapshot`` to its `watch`.

    Args:
        registry: Where to register the collector; by default prometheus_client's own registry.

    Raises:
        ModuleNotFoundError: prometheus_client is not installed.
        ValueError: The registry already has these metrics. Each executor needs its own listener, and each
            listener its own registry.
    """
    try:
        from claude_executor.observe.prometheus import Prometheus
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "prometheus_client":
            raise
        message = "prometheus_client is not installed; run: pip install 'claude-executor[metrics]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    return Prometheus(registry)
