"""The same metrics through OpenTelemetry and Prometheus."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from claude_executor import Failed, Limits, RetryPolicy, Snapshot
from claude_executor.observe import all_of, names, to_prometheus
from claude_executor.observe.snapshot_reader import SnapshotReader
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time

FLOWING = Settings(
    rates=Rates(rpm=6_000, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(40, 0.3),
)
M = ("haiku-5.5", "claude-haiku-5-5")


def scraped(registry):
    """Every sample by its name and the values of its labels, in the order in which they are declared."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    order = ["pool", "model", "kind", "resource", "le"]
    return {
        (s.name, *(s.labels[name] for name in order if name in s.labels)): s.value
        for family in families
        for s in family.samples
    }


@pytest.fixture
def registry():
    return CollectorRegistry()


async def test_what_is_counted_is_what_happened(executor_on, observed, registry, prompt):
    """Attempts, failures by kind, tokens, waits: as the simulator has them, and alike in both systems."""
    simulator = Simulator(FLOWING, faults=Faults(overloaded=0.2, error_500=0.1), clock=loop_time)
    prometheus, telemetry = to_prometheus(registry), observed.telemetry
    used = []
    async with executor_on(
        simulator, Limits(rpm=1_200, burst=1.0), on_event=all_of(prometheus, telemetry), random=lambda: 0.5
    ) as executor:
        prometheus.watch(executor.snapshot)
        telemetry.watch(executor.snapshot)

        async def one(number):
            used.append((await executor.submit(prompt(f"{number}"))).usage)

        await asyncio.gather(*(one(number) for number in range(60)))
        samples, metrics, state = scraped(registry), observed.metrics(), executor.snapshot()
    status = simulator.stats()["by_status"]
    assert status["529"] > 3
    assert status["500"] > 1
    assert samples["claude_executor_requests_total", *M, "answered"] == 60
    assert samples["claude_executor_attempts_total", *M] == sum(status.values())
    assert samples["claude_executor_failures_total", *M, "overloaded"] == status["529"]
    assert samples["claude_executor_failures_total", *M, "server error"] == status["500"]
    for kind in ("input", "output"):
        total = sum(getattr(usage, f"{kind}_tokens") for usage in used)
        assert samples["claude_executor_tokens_total", *M, kind] == total
    assert samples["claude_executor_queue_wait_seconds_count", *M] == 60
    assert samples["claude_executor_request_duration_seconds_count", *M, "answered"] == 60
    assert sum(state.pools[M[0]].held_for.values()) > 1.0
    for why, seconds in state.pools[M[0]].held_for.items():
        assert samples["claude_executor_queue_held_seconds_total", M[0], why] == seconds

    for metric in (*names.EVENT_COUNTERS, *names.SNAPSHOT_COUNTERS, *names.GAUGES):
        points = metrics[metric.name]
        assert points, metric
        for point in points:
            suffix = "_total" if metric in (*names.EVENT_COUNTERS, *names.SNAPSHOT_COUNTERS) else ""
            unit = {"s": "_seconds", "1": "_ratio"}.get(metric.unit, "")
            name = metric.name.replace(".", "_") + unit + suffix
            assert point.value == samples[name, *point.attributes.values()], name
    for metric in names.HISTOGRAMS:
        for point in metrics[metric.name]:
            name = metric.name.replace(".", "_") + "_seconds"
            key = tuple(point.attributes.values())
            assert point.count == samples[f"{name}_count", *key]
            assert point.sum == pytest.approx(samples[f"{name}_sum", *key])
            below = 0
            for edge, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
                below += count
                assert samples[f"{name}_bucket", *key, str(edge)] == below


@pytest.mark.simulator(FLOWING)
async def test_the_state_is_that_of_the_moment(simulator, executor_on, registry, prompt):
    """Levels, lines and breakers are read at the scrape, from whatever thread it comes."""
    prometheus = to_prometheus(registry)
    async with executor_on(
        simulator, Limits(rpm=600, burst=1.0), on_event=prometheus, max_concurrency=4
    ) as executor:
        assert not [name for name in scraped(registry) if "limit" in name[0]]
        prometheus.watch(executor.snapshot)
        tasks = [asyncio.create_task(executor.submit(prompt(f"{n}"))) for n in range(9)]
        await asyncio.sleep(0.3)
        state = executor.snapshot().pools[M[0]]
        here = scraped(registry)
        assert here["claude_executor_queued", M[0]] == state.queued > 0
        assert here["claude_executor_running", M[0]] == state.running > 0
        assert here["claude_executor_limit", M[0], "requests"] == 600.0
        assert here["claude_executor_limit_level", M[0], "requests"] == state.resources["requests"].level
        assert here["claude_executor_breaker_state", M[0]] == 0.0
        await asyncio.gather(*tasks)


@pytest.mark.parametrize(("state", "value"), [("closed", 0.0), ("half-open", 1.0), ("open", 2.0)])
async def test_a_breaker_is_a_number(executor_on, prompt, state, value):
    """Open is 2."""
    simulator = Simulator(FLOWING, clock=loop_time)
    async with executor_on(simulator) as executor:
        await executor.submit(prompt())
        now = executor.snapshot()
        now.pools[M[0]] = replace(now.pools[M[0]], breaker=state)
        reading = SnapshotReader()
        reading.watch(lambda: now)
        assert reading.metrics()[names.BREAKER] == {(M[0],): value}


async def test_labels_take_few_values(executor_on, observed, registry, prompt):
    """A thousand tenants and ids make no more series than one."""
    simulator = Simulator(FLOWING, faults=Faults(error_500=0.5), clock=loop_time)
    listen = all_of(to_prometheus(registry), observed.telemetry)
    sizes = []
    async with executor_on(simulator, on_event=listen, retry=RetryPolicy(max_attempts=1)) as executor:
        for number in range(40):
            with contextlib.suppress(Failed):
                await executor.submit(prompt(f"{number}"), tenant=f"tenant {number}")
            sizes.append(len(scraped(registry)))
        assert "tenant" not in generate_latest(registry).decode()
    assert sizes[-1] == sizes[20]
    labels = {name for points in observed.metrics().values() for point in points for name in point.attributes}
    assert labels == {"claude_executor.pool", "gen_ai.request.model", "claude_executor.kind"}


def test_a_registry_takes_one_executor():
    """A second one would make every metric ambiguous."""
    registry = CollectorRegistry()
    to_prometheus(registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        to_prometheus(registry)


def test_without_prometheus_client_it_is_said_what_to_install():
    """And nothing else of the package needs it, nor OpenTelemetry's or the SDK's import time."""
    code = """
import sys
sys.modules["prometheus_client"] = None
from claude_executor import observe
assert not [name for name in ("opentelemetry", "anthropic") if name in sys.modules]
try:
    observe.to_prometheus()
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip()
        == "prometheus_client is not installed; run: pip install 'claude-executor[metrics]'"
    )


NOW = Snapshot(queued=0, running=0, waiting_to_retry=3, answered=0, failed=0, attempts=0, retries=0, pools={})


def test_a_reading_from_another_thread_is_taken_on_the_event_loop():
    """An executor belongs to its loop; and when that is closed, nothing changes any more."""
    reading, taken_in, values = SnapshotReader(), [], []

    def snapshot():
        taken_in.append(threading.get_ident())
        return NOW

    async def main():
        reading.watch(snapshot)
        await asyncio.to_thread(lambda: values.append(reading.metrics()))
        return threading.get_ident()

    other = []
    thread = threading.Thread(target=lambda: other.append(asyncio.run(main())))
    thread.start()
    thread.join()
    assert taken_in == other
    assert values[0][names.WAITING_TO_RETRY] == {(): 3}
    assert reading.metrics()[names.WAITING_TO_RETRY] == {(): 3}


def test_a_loop_that_does_not_answer_gives_no_values(monkeypatch):
    """A scrape waits for a moment, not for ever; and who watches nobody reads nothing."""
    monkeypatch.setattr("claude_executor.observe.snapshot_reader.TIMEOUT", 0.0)
    reading, values = SnapshotReader(), []
    assert reading.metrics() == {}

    async def main():
        reading.watch(lambda: NOW)
        scrape = threading.Thread(target=lambda: values.append(reading.metrics()))
        scrape.start()
        scrape.join()  # the loop is busy meanwhile
        await asyncio.sleep(0)  # now it answers, and nobody waits any more

    asyncio.run(main())
    assert values == [{}]
