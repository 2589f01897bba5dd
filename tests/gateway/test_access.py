"""Who may use the gateway, what it tells of itself, and what it never tells."""

import asyncio
import json
import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.gateway.gateway_harness import FLOWING, OUR_KEY, prompt

from claude_executor import ExecutorError, Limits
from claude_executor.gateway import Access
from claude_executor.observe import to_log, to_prometheus
from claude_executor.simulator import Faults, Latency, Settings

KEYS = {"gateway": {"access": Access({"right": "", "another": "team-b"})}}
PATHS = ["/v1/messages", "/v1/models", "/claude-executor/status", "/claude-executor/metrics", "/elsewhere"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "right"},
        {"x-api-key": "another"},
        {"authorization": "Bearer right"},
        {"authorization": "bearer  right "},
        {"authorization": "Bearer right", "x-api-key": "wrong"},
        {"authorization": "Basic right", "x-api-key": "right"},
        {"x-api-key": "right", "origin": "https://page.example"},
    ],
)
async def test_a_client_key_opens(serve, headers):
    """In either place, for a page too: somebody has given it the key."""
    async with serve(**KEYS) as served:
        answer = await served.ask(prompt(), headers=headers).end()
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": "wrong"},
        {"x-api-key": "righ"},
        {"x-api-key": "right2"},
        {"x-api-key": "tëam"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic right"},
        {"authorization": "right"},
        [("x-api-key", "wrong"), ("x-api-key", "right")],
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_without_a_client_key_it_is_shut(serve, headers, path):
    """Everything but its health, and nothing is sent."""
    async with serve(**KEYS) as served:
        answer = await served.ask(prompt(), path, headers=headers).end()
    assert answer.error == (401, "authentication_error", "false")
    assert "right" not in answer.body.decode()
    assert served.api.exchanges == []


async def test_a_key_with_a_name_is_its_tenants(serve):
    """Whatever tenant its requests name; the others may name any."""
    settings = Settings(rates=FLOWING.rates, latency=Latency(1.0))
    begun = []
    async with serve(settings, max_concurrency=1, on_event=begun.append, **KEYS) as served:
        for key in ("right", "another"):
            headers = {"x-api-key": key, "x-claude-executor-tenant": "mine"}
            await served.ask(prompt(key), headers=headers).end()
    tenants = [event.tenant for event in begun if type(event).__name__ == "RequestSubmitted"]
    assert tenants == ["mine", "team-b"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"x-api-key": "anything"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"host": "localhost:8484"}, 200),
        ({"host": "127.0.0.1:8484"}, 200),
        ({"host": "[::1]:8484"}, 200),
        ({"host": "page.example"}, 403),
        ({"host": "localhost.page.example:8484"}, 403),
        ({"origin": "https://page.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
async def test_a_web_page_is_refused_where_there_is_no_key(serve, headers, status):
    """It runs in a browser on the very machine that is trusted."""
    async with serve() as served:
        answer = await served.ask(prompt(), headers=headers).end()
    assert answer.status == status
    if status == 403:
        assert answer.error == (403, "permission_error", "false")
        assert served.api.exchanges == []


@pytest.mark.parametrize("headers", [{}, {"origin": "https://page.example"}, {"x-api-key": "wrong"}])
@pytest.mark.parametrize("options", [{}, KEYS])
async def test_health_is_always_told(serve, headers, options):
    """Who looks after the machine has no key."""
    async with serve(**options) as served:
        answer = await served.ask(None, "/claude-executor/health", method="GET", headers=headers).end()
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')


async def test_who_is_about_to_stop_is_not_well(serve):
    """So that nobody new is sent there."""
    async with serve() as served:
        served.app.stopping = True
        answer = await served.ask(None, "/claude-executor/health", method="GET").end()
    assert answer.status == 503


async def test_its_status_is_the_executors_snapshot(serve):
    """As JSON."""
    async with serve(FLOWING, Limits(rpm=600)) as served:
        await served.ask(prompt()).end()
        answer = await served.ask(None, "/claude-executor/status", method="GET").end()
    data = json.loads(answer.body)
    assert answer.headers["content-type"] == ["application/json"]
    assert (data["answered"], data["running"], data["queued"]) == (1, 0, 0)
    assert "haiku-5.5" in data["pools"]
    assert answer.headers["content-length"] == [str(len(answer.body))]


async def test_metrics_are_what_it_is_given(serve):
    """Without any there is nothing."""
    registry = CollectorRegistry()
    prometheus = to_prometheus(registry)
    gateway = {"metrics": lambda: generate_latest(registry)}
    async with serve(on_event=prometheus, gateway=gateway) as served:
        prometheus.watch(served.executor.snapshot)
        await served.ask(prompt()).end()
        answer = await served.ask(None, "/claude-executor/metrics", method="GET").end()
    assert answer.headers["content-type"][0].startswith("text/plain")
    assert "claude_executor" in answer.body.decode()
    async with serve() as served:
        for what in ("metrics", "else", ""):
            answer = await served.ask(None, f"/claude-executor/{what}", method="GET").end()
            assert answer.error == (404, "not_found_error", "false")


MARK = "Xq7"
FAULTS = Faults(error_500=0.2, reset=0.1, garbage=0.05, stream_dropped=0.2, stream_cut=0.2, overloaded=0.1)


async def test_no_prompt_reply_or_key_is_told(serve, caplog):
    """Whatever goes wrong: not in logs, not in what the gateway answers by itself, not in a repr."""
    caplog.set_level(logging.DEBUG, "claude_executor")
    access = Access({f"client-{MARK}": ""})
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    async with serve(faults=FAULTS, max_queued=40, on_event=to_log(), gateway={"access": access}) as served:
        headers = {"x-api-key": f"client-{MARK}"}
        asked = [served.ask(prompt(f"{MARK} {n}", stream=n % 2 == 1), headers=headers) for n in range(100)]
        asked += [
            served.ask(f"{MARK} no json".encode(), headers=headers),
            served.ask(prompt(MARK), headers={"x-api-key": f"wrong-{MARK}"}),
            served.ask(prompt(MARK), headers={**headers, "x-claude-executor-priority": MARK}),
            served.ask(prompt(MARK, max_tokens=-1), headers=headers),
        ]
        await asyncio.sleep(0.1)
        for left in asked[3:60:20]:
            left.leave()
        reprs = [repr(access), repr(served.app), repr(served.executor), repr(served.executor.snapshot())]
        for answer in asked:
            await answer.end()
        reprs += [repr(answer.body) for answer in asked if answer.status not in (200, None)]
        reprs += [repr(ExecutorError)]
    replies = [piece.decode() for one in served.api.exchanges for piece in one.pieces]
    texts = {reply.split('"text":"')[1][:24] for reply in replies if '"text":"Answer' in reply}
    assert {answer.status for answer in asked} >= {200, 400, 401, 529, None}
    assert len(texts) > 30
    assert len(caplog.records) > 200
    assert reported == []
    logs = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    for text in (logs, "\n".join(reprs)):
        assert MARK not in text
        assert OUR_KEY not in text
        assert not any(reply in text for reply in texts)
