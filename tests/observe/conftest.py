"""Executors under observation, connected to a simulator in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.virtual_loop import pytest_asyncio_loop_factories

from claude_executor import Executor, Limits
from claude_executor.observe import to_opentelemetry
from claude_executor.simulator import Simulator
from claude_executor.testing import loop_time, simulated_client

__all__ = ["pytest_asyncio_loop_factories"]

MODEL = "claude-haiku-5-5"
POOL = "haiku-5.5"


@pytest.fixture
def prompt() -> Callable[..., dict[str, Any]]:
    """Make requests."""

    def make(text: str = "Hello", **more: Any) -> dict[str, Any]:
        return {
            "model": MODEL,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": text}],
            "metadata": {"user_id": text},
            **more,
        }

    return make


class Observed:
    """OpenTelemetry in memory: providers, and what has come to them."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.telemetry = to_opentelemetry(tracer_provider=self.traces, meter_provider=self.meters)

    def spans(self, name: str = "claude_executor.request") -> list[Any]:
        """The spans of that name that are over, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of every metric."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for s in scopes for metric in s.metrics}


@pytest.fixture
def observed():
    """OpenTelemetry in memory, and a listener that feeds it."""
    made = Observed()
    yield made
    made.traces.shutdown()
    made.meters.shutdown()


@pytest.fixture
def executor_on() -> Callable[..., Executor]:
    """Make an executor whose client is connected to a simulator and, if so asked, traced."""

    def make(
        simulator: Simulator, limits: Limits | None = None, *, client: Any = None, **options: Any
    ) -> Executor:
        client = client or simulated_client(simulator)
        return Executor(limits, client=client, clock=loop_time, **options)

    return make


@pytest.fixture
def traced_client(observed):
    """Make clients whose own spans go where the listener's go."""

    def make(simulator: Simulator, **options: Any) -> Any:
        return simulated_client(simulator, open_telemetry={"tracer_provider": observed.traces}, **options)

    return make
