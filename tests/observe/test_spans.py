"""A span for every request, and the SDK's own below it."""

import asyncio
import contextlib

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from claude_executor import Failed, FailureKind, Limits, QueueFull, RetryPolicy, StreamInterrupted
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time

FLOWING = Settings(
    rates=Rates(rpm=6_000, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(40, 0.3),
)
CALL = "anthropic.messages.create"


@pytest.fixture
def watched(observed, executor_on, traced_client):
    """Make an executor with spans."""

    def make(simulator, limits=None, **options):
        telemetry = observed.telemetry
        client = traced_client(simulator)
        return executor_on(
            simulator,
            limits,
            client=client,
            on_event=telemetry,
            attempt_context=telemetry.attempt_context,
            **options,
        )

    return make


def none_open(observed):
    """Whether nothing is kept of requests that are over."""
    return not observed.telemetry._spans._open


@pytest.mark.simulator(FLOWING)
async def test_a_request_is_a_span_between_its_callers_and_the_sdks(simulator, watched, observed, prompt):
    """One trace: the caller's span, the request's below it, the SDK's call below that."""
    tracer = observed.traces.get_tracer("test")
    async with watched(simulator) as executor:
        with tracer.start_as_current_span("mine") as mine:
            await executor.submit(prompt(), tenant="somebody")
            assert trace.get_current_span() is mine
    (request,), (call,) = observed.spans(), observed.spans(CALL)
    assert request.parent.span_id == mine.get_span_context().span_id
    assert call.parent.span_id == request.context.span_id
    assert request.attributes == {
        "claude_executor.pool": "haiku-5.5",
        "gen_ai.request.model": "claude-haiku-5-5",
        "claude_executor.tenant": "somebody",
        "claude_executor.queue.wait": 0.0,
        "claude_executor.attempts": 1,
        "claude_executor.outcome": "answered",
    }
    assert request.status.status_code is StatusCode.UNSET
    assert none_open(observed)


@pytest.mark.simulator(FLOWING)
async def test_callers_at_once_keep_their_spans_apart(simulator, watched, observed, prompt):
    """Each request belongs to the trace of who asked for it, though others' answers start it."""
    tracer = observed.traces.get_tracer("test")

    async def one(executor, number):
        with tracer.start_as_current_span(f"mine {number}"):
            await executor.submit(prompt(f"{number}"))

    async with watched(simulator, max_concurrency=3) as executor:
        await asyncio.gather(*(one(executor, number) for number in range(20)))
    by_id = {span.context.span_id: span for span in observed.exporter.get_finished_spans()}
    assert len(observed.spans()) == len(observed.spans(CALL)) == 20
    parents = set()
    for call in observed.spans(CALL):
        request = by_id[call.parent.span_id]
        assert request.name == "claude_executor.request"
        parents.add(by_id[request.parent.span_id].name)
    assert parents == {f"mine {number}" for number in range(20)}
    held = [span.attributes.get("claude_executor.queue.held_by") for span in observed.spans()]
    assert held.count("concurrency") >= 10
    assert none_open(observed)


async def test_every_attempt_is_below_the_one_request(watched, observed, prompt):
    """Retries are the request's, with what each of them met."""
    simulator = Simulator(FLOWING, faults=Faults(overloaded=0.6), clock=loop_time)
    async with watched(simulator) as executor:
        for number in range(12):
            await executor.submit(prompt(f"{number}"))
    retried = [span for span in observed.spans() if span.attributes["claude_executor.attempts"] > 1]
    assert retried
    for request in retried:
        calls = [span for span in observed.spans(CALL) if span.parent.span_id == request.context.span_id]
        attempts = request.attributes["claude_executor.attempts"]
        assert len(calls) == attempts
        assert request.attributes["claude_executor.retry.kinds"] == ("overloaded",) * (attempts - 1)
        assert request.attributes["claude_executor.outcome"] == "answered"
        failures = [event for event in request.events if event.name == "claude_executor.attempt.failed"]
        assert [event.attributes["http.response.status_code"] for event in failures] == [529] * (attempts - 1)


async def test_a_failure_a_refusal_and_a_cancellation_end_the_span(watched, observed, prompt):
    """However a request ends, its span ends with it and says how."""
    simulator = Simulator(FLOWING, faults=Faults(error_500=1.0), clock=loop_time)
    retry = RetryPolicy(max_attempts=1)
    async with watched(simulator, Limits(rpm=600), retry=retry, max_queued=1, max_concurrency=1) as executor:
        with pytest.raises(Failed):
            await executor.submit(prompt())
        simulator.set_faults(Faults())
        running, queued = [asyncio.create_task(executor.submit(prompt(text))) for text in "ab"]
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFull):
            await executor.submit(prompt())
        for task in (queued, running):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    failed, refused, *cancelled = observed.spans()
    assert failed.attributes["claude_executor.outcome"] == "failed"
    assert failed.attributes["error.type"] == FailureKind.SERVER.value
    assert failed.status.status_code is refused.status.status_code is StatusCode.ERROR
    assert failed.status.description is refused.status.description is None
    assert refused.attributes["claude_executor.outcome"] == "refused"
    assert refused.attributes["error.type"] == "the queue is full"
    assert "claude_executor.queue.wait" not in refused.attributes
    assert [span.attributes["claude_executor.outcome"] for span in cancelled] == ["cancelled"] * 2
    assert [span.attributes["claude_executor.attempts"] for span in cancelled] == [0, 1]
    assert {span.status.status_code for span in cancelled} == {StatusCode.UNSET}
    assert none_open(observed)


@pytest.mark.simulator(FLOWING)
async def test_the_span_of_a_stream_lasts_until_it_ends(simulator, watched, observed, prompt):
    """Read to its end, left early or broken off; and within the block the caller's own span is current."""
    tracer = observed.traces.get_tracer("test")
    async with watched(simulator) as executor:
        with tracer.start_as_current_span("mine") as mine:
            async with executor.stream(prompt("whole")) as stream:
                assert trace.get_current_span() is mine
                assert not observed.spans()
                await stream.get_final_message()
                assert len(observed.spans()) == 1
            async with executor.stream(prompt("left")):
                pass
            simulator.set_faults(Faults(stream_cut=1.0))
            with pytest.raises(StreamInterrupted):
                async with executor.stream(prompt("broken")) as stream:
                    await stream.get_final_message()
    outcomes = [span.attributes["claude_executor.outcome"] for span in observed.spans()]
    assert outcomes == ["answered", "cancelled", "failed"]
    requests = {span.context.span_id for span in observed.spans()}
    assert {span.parent.span_id for span in observed.spans(CALL)} == requests
    assert none_open(observed)


@pytest.mark.simulator(FLOWING)
async def test_the_requests_of_a_map_belong_to_its_caller(simulator, watched, observed, prompt):
    """Its workers begin in the span in which the map began."""
    tracer = observed.traces.get_tracer("test")
    async with watched(simulator) as executor:
        with tracer.start_as_current_span("mine") as mine:
            async for _ in executor.map(prompt(f"{number}") for number in range(5)):
                pass
    assert {span.parent.span_id for span in observed.spans()} == {mine.get_span_context().span_id}
    assert len(observed.spans()) == 5
