"""Listeners for ``Executor(on_event=…)``: logging, OpenTelemetry, Prometheus, or several of them.

They see events and snapshots, in which there is no prompt, no answer and no key. Each listener is for one
executor::

    telemetry = observe.to_opentelemetry()
    listen = observe.all_of(observe.to_log(), telemetry)
    async with Executor(on_event=listen, around=telemetry.around) as executor:
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
    """A listener that tells several. What one of them raises does not keep the event from the others.

    It is raised when all have been told, so that the executor reports it as that of a single listener:
    together, as an `ExceptionGroup`, where several failed.
    """

    def listen(event: Event) -> None:
        errors: list[Exception] = []
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:  # a stranger's code may raise anything
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("several listeners raised exceptions", errors)

    return listen


def to_opentelemetry(
    *, tracer_provider: "TracerProvider | None" = None, meter_provider: "MeterProvider | None" = None
) -> "OpenTelemetry":
    """A listener that makes a span of every request, and metrics of all of them.

    Its `around` is for ``Executor(around=…)``, and its `watch` for ``executor.snapshot``.

    Args:
        tracer_provider: Where spans go; by default the one that is registered with OpenTelemetry.
        meter_provider: Where metrics go; by default the one that is registered with OpenTelemetry.
    """
    from claude_executor.observe.telemetry import OpenTelemetry

    return OpenTelemetry(tracer_provider, meter_provider)


def to_prometheus(registry: "CollectorRegistry | None" = None) -> "Prometheus":
    """A listener that is a collector of metrics for Prometheus. Its `watch` is for ``executor.snapshot``.

    Args:
        registry: Where to register it; by default prometheus_client's own.

    Raises:
        ModuleNotFoundError: prometheus_client is not installed.
        ValueError: The registry has these metrics already: there is one listener for each executor, and one
            registry for each listener.
    """
    try:
        from claude_executor.observe.prometheus import Prometheus
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "prometheus_client":
            raise
        message = "Prometheus needs prometheus_client: pip install 'claude-executor[metrics]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    return Prometheus(registry)
