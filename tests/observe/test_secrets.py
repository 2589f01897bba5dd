"""No prompt, reply or key passes through whatever observes an executor."""

import asyncio
import logging
from dataclasses import replace

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from claude_executor import ExecutorError, FailureKind, Limits, RetryPolicy
from claude_executor.observe import all_of, to_log, to_prometheus
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time
from claude_executor.testing.transport import SimulatorTransport

MARK = "Xq7"
"""In every secret of a request; the answers are known by their texts."""
KEY = f"sk-ant-{MARK}-key"
SETTINGS = Settings(
    rates=Rates(rpm=300, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(40, 0.3),
)
FAULTS = Faults(
    error_500=0.25, overloaded=0.1, reset=0.1, garbage=0.05, rate_limited_plain=0.05, stream_overloaded=0.1,
    stream_rate_limited=0.1, stream_dropped=0.15, stream_cut=0.25,
)  # fmt: skip


class Quoting(SimulatorTransport):
    """Refuses some requests with an error that quotes their prompts."""

    async def handle_async_request(self, request):
        body = (await request.aread()).decode()
        if "refuse me" not in body:
            return await super().handle_async_request(request)
        begin = body.index("refuse me")
        message = f"messages.0.content: this is not allowed: {body[begin : begin + 60]}"
        error = {"type": "invalid_request_error", "message": message, "details": None}
        return httpx2.Response(400, json={"type": "error", "error": error}, request=request)


def secret(number, *, refused=False):
    """A request in which everything that a user may write is marked."""
    words = f"{'refuse me ' if refused else ''}the {MARK} question number {number} is of nobody's concern"
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 64,
        "system": f"You are {MARK} the system",
        "messages": [
            {"role": "user", "content": words},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": f"{MARK} input"}}
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": f"the {MARK} result"}],
            },
        ],
        "tools": [{"name": "look", "description": f"{MARK} tool", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": f"user-{MARK}-{number}"},
    }


class Everything:
    """All that came of requests: what observers were told, and what callers were."""

    def __init__(self):
        self.events, self.reprs, self.errors, self.replies = [], [], [], []

    async def ask(self, executor, params):
        try:
            self.replies.append((await executor.submit(params, tenant="t")).content[0].text)
        except ExecutorError as error:
            self.errors.append(error)

    async def listen(self, executor, params):
        try:
            async with executor.stream(params) as stream:
                self.replies.append((await stream.get_final_message()).content[0].text)
        except ExecutorError as error:
            self.errors.append(error)
            if (message := getattr(error, "message", None)) is not None and message.content:
                self.replies.append(message.content[0].text)

    def told(self):
        """What all of it says of itself."""
        errors = [text for e in self.errors for text in (str(e), repr(e), repr(e.args))]
        return "\n".join([*map(repr, self.events), *map(str, self.events), *errors, *self.reprs])


async def test_no_prompt_reply_or_key_is_emitted(observed, executor_on, traced_client, caplog):
    """Marked secrets go in, faults of every kind happen, and no mark comes out anywhere."""
    caplog.set_level(logging.DEBUG, "claude_executor")
    simulator = Simulator(SETTINGS, faults=FAULTS, clock=loop_time)
    http_client = httpx2.AsyncClient(transport=Quoting(simulator))
    client = traced_client(simulator, api_key=KEY, http_client=http_client)
    registry, seen = CollectorRegistry(), Everything()
    prometheus, telemetry = to_prometheus(registry), observed.telemetry
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    async with executor_on(
        simulator,
        Limits(rpm=3_000),
        client=client,
        on_event=all_of(to_log(), telemetry, prometheus, seen.events.append),
        attempt_context=telemetry.attempt_context,
        retry=RetryPolicy(max_attempts=2),
        max_queued=150,
    ) as executor:
        prometheus.watch(executor.snapshot)
        telemetry.watch(executor.snapshot)
        begun = [asyncio.create_task(seen.ask(executor, secret(n, refused=n % 10 == 0))) for n in range(100)]
        begun += [
            asyncio.create_task(seen.listen(executor, secret(n, refused=n % 10 == 0))) for n in range(100)
        ]
        await asyncio.sleep(1.0)
        for task in begun[5:100:20]:
            task.cancel()
        seen.reprs += [repr(executor), repr(executor.snapshot()), repr(executor._scheduler._pools)]
        await asyncio.gather(*begun, return_exceptions=True)
        scrape, metrics = generate_latest(registry).decode(), observed.reader.get_metrics_data().to_json()
        seen.reprs += [repr(executor), repr(executor.snapshot())]

    # It is worth something only if all of it happened.
    kinds = {getattr(error, "kind", type(error).__name__) for error in seen.errors}
    assert kinds >= {
        FailureKind.INVALID,
        FailureKind.SERVER,
        FailureKind.TRUNCATED,
        FailureKind.DROPPED,
        "QueueFull",
    }
    assert any(event.kind is FailureKind.QUOTA for event in seen.events if hasattr(event, "kind"))
    replies = [reply for reply in seen.replies if len(reply) > 12]  # one word may stand anywhere
    assert len(replies) > 50
    assert len(seen.events) > 500
    assert len(caplog.records) >= len(seen.events) - 5
    assert any(MARK in str(error.__cause__) for error in seen.errors), "the API has quoted nothing"
    assert reported == []

    spans = "\n".join(span.to_json() for span in observed.exporter.get_finished_spans())
    assert "claude_executor.request" in spans
    assert "anthropic.messages.create" in spans
    logs = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    for what, text in [
        ("logs", logs), ("spans", spans), ("metrics", metrics), ("scrape", scrape), ("told", seen.told()),
    ]:  # fmt: skip
        assert MARK not in text, what
        for reply in replies:
            assert reply[:30] not in text, what


def test_the_marks_would_be_found():
    """The search finds what it is for: in an event's repr, and in an error's text."""
    seen = Everything()
    from claude_executor.core.model.events import RequestRefused

    event = RequestRefused(at=1.0, number=1, pool="p", model="m", tenant="t", submitted_at=0.0, reason="no")
    seen.events = [replace(event, reason=f"{MARK} prompt")]
    assert MARK in seen.told()
    seen.events, seen.errors = [], [ExecutorError(f"{MARK} prompt")]
    assert MARK in seen.told()


@pytest.mark.parametrize("text", ["", "x"])
def test_secrets_are_marked(text):
    """Every request of the test above is marked wherever a user may write."""
    params = secret(text)
    for part in ("system", "messages", "tools", "metadata"):
        assert MARK in repr(params[part])
