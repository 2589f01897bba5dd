"""What the gateway answers by itself: in the API's form, and so that SDKs do not try again in vain."""

import asyncio
import gzip
import json

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.gateway_harness import FLOWING, prompt

from claude_executor import (
    BudgetUnreachable,
    Closed,
    DeadlineExceeded,
    Failed,
    FailureKind,
    QueueFull,
    Rejected,
    RequestOptions,
    SpendingCap,
    SpendingCapReached,
    Stopped,
    TooLarge,
)
from claude_executor.gateway.error_replies import error_reply_for
from claude_executor.gateway.headers import BadHeader, options_of
from claude_executor.simulator import Faults

REQUEST = httpx2.Request("POST", "http://api/v1/messages")


@pytest.mark.parametrize(
    ("error", "status", "kind", "after"),
    [
        (QueueFull("m"), 529, "overloaded_error", "5"),
        (QueueFull("m", retry_after=2.1), 529, "overloaded_error", "3"),
        (DeadlineExceeded("m"), 504, "timeout_error", None),
        (SpendingCapReached("m"), 402, "billing_error", None),
        (BudgetUnreachable("m"), 503, "api_error", "5"),
        (BudgetUnreachable("m", retry_after=11.0), 503, "api_error", "11"),
        (Closed("m"), 503, "api_error", "5"),
        (TooLarge("m"), 413, "request_too_large", None),
        (Stopped("m", kind=FailureKind.AUTHENTICATION), 401, "authentication_error", None),
        (Stopped("m", kind=FailureKind.BILLING), 402, "billing_error", None),
        (Stopped("m", kind=FailureKind.PERMISSION), 403, "permission_error", None),
        (Stopped("m", kind=FailureKind.NOT_FOUND), 404, "not_found_error", None),
        (Stopped("m", kind=FailureKind.SPEND_LIMIT), 429, "rate_limit_error", None),
        (Stopped("m", kind=FailureKind.UNREACHABLE), 502, "api_error", None),
        (Rejected("m"), 502, "api_error", None),
        (Failed("m", kind=FailureKind.SERVER, attempts=2, status=500), 500, "api_error", None),
        (Failed("m", kind=FailureKind.DROPPED, attempts=2), 502, "api_error", None),
        (anthropic.APITimeoutError(REQUEST), 504, "timeout_error", None),
        (anthropic.APIConnectionError(request=REQUEST), 502, "api_error", None),
        (httpx2.ReadTimeout("m"), 504, "timeout_error", None),
        (httpx2.ReadError("m"), 502, "api_error", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_a_client_is_told_of_an_error(error, status, kind, after):
    """Its status and type, and when to come again, if that makes sense."""
    reply = error_reply_for(error)
    data = json.loads(reply.body)
    assert (reply.status, data["type"], data["error"]["type"]) == (status, "error", kind)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    assert headers.get("retry-after") == after
    assert headers["x-should-retry"] == ("false" if after is None else "true")
    assert headers["content-type"] == "application/json"
    assert reply.event == b"event: error\ndata: " + reply.body + b"\n\n"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_line_that_is_full_turns_away(serve, streamed):
    """With a hint after which an SDK tries again; who waits is answered."""
    async with serve(max_concurrency=1, max_queued=2) as served:
        answers = [served.ask(prompt(f"{n}", stream=streamed)) for n in range(6)]
        for answer in answers:
            await answer.end()
    assert [answer.status for answer in answers] == [200] * 3 + [529] * 3
    assert answers[-1].error == (529, "overloaded_error", "true")
    assert answers[-1].headers["retry-after"] == ["5"]


async def test_an_sdk_comes_again_when_the_line_was_full(serve):
    """Its own retries are for this; it waits as it is told."""
    async with serve(max_concurrency=1, max_queued=1) as served:
        client = served.sdk()
        done = await asyncio.gather(*(client.messages.create(**prompt(f"{n}")) for n in range(3)))
    assert len({message.id for message in done}) == 3
    assert len(served.api.exchanges) == 3


async def test_a_spent_budget_turns_away(serve):
    """Nothing is sent."""
    async with serve(spending_caps=[SpendingCap(1e-9)]) as served:
        answer = await served.ask(prompt()).end()
    assert answer.error == (402, "billing_error", "false")
    assert served.api.exchanges == []


@pytest.mark.parametrize(
    ("faults", "status", "kind"),
    [
        (Faults(invalid_key=True), 401, "authentication_error"),
        (Faults(billing_402=True), 402, "billing_error"),
        (Faults(permission_403=True), 403, "permission_error"),
        (Faults(spend_cap=True), 429, "rate_limit_error"),
    ],
)
async def test_what_would_meet_all_others_is_sent_once(serve, faults, status, kind):
    """The first gets the API's own words, the others are told that it did; neither is tried again."""
    async with serve(faults=faults) as served:
        first = await served.ask(prompt()).end()
        second = await served.ask(prompt()).end()
    assert first.error == second.error == (status, kind, "false")
    assert first.body == b"".join(served.api.last.pieces)
    assert len(served.api.exchanges) == 1


async def test_an_api_that_cannot_be_reached_is_told_in_the_end(serve):
    """When the client would give up."""

    async def nobody(scope, receive, send):
        raise httpx2.ConnectError("refused")

    async with serve(api=nobody) as served:
        answer = await served.ask(prompt(), headers={"x-stainless-timeout": "30"}).end()
        models = await served.ask(None, "/v1/models", method="GET").end()
    assert answer.error == (502, "api_error", "false")
    assert models.error == (502, "api_error", None)  # it was tried once


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"{", {}),
        (b'"text"', {}),
        (b"[1]", {}),
        (b"\xff\xfe", {}),
        (gzip.compress(json.dumps(prompt()).encode()), {"content-encoding": "gzip"}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_a_body_that_is_no_json_object_is_refused(serve, body, headers, path):
    """It is not sent: what it draws could not be known."""
    async with serve() as served:
        answer = await served.ask(body, path, headers=headers).end()
    assert answer.error == (400, "invalid_request_error", "false")
    assert served.api.exchanges == []


@pytest.mark.parametrize("depth", [1_000, 100_000])
async def test_a_body_that_is_nested_too_deeply_is_the_clients_mistake(serve, depth):
    """Python's own bound of calls within calls is met before the API is."""
    nested = b"[" * depth + b"]" * depth
    body = json.dumps(prompt(metadata="here")).encode().replace(b'"here"', nested)
    async with serve() as served:
        answer = await served.ask(body).end()
    assert answer.error == (400, "invalid_request_error", "false")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": None}, "model"),
        ({"model": ["x"]}, "model"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
    ],
)
async def test_a_request_that_is_none_was_an_error_of_the_gateways(serve, changes, said):
    """It is the client's, and what it lacks is told."""
    async with serve() as served:
        answer = await served.ask(prompt(**changes)).end()
    assert answer.error == (400, "invalid_request_error", "false")
    assert said in answer.body.decode()
    assert served.api.exchanges == []


@pytest.mark.parametrize("extra", [0, 1])
async def test_a_message_has_at_most_32_mb(serve, extra):
    """One byte more is refused, when it comes and no later."""
    async with serve() as served:
        answer = served.ask()
        start = json.dumps(prompt(""))[: -len('"}]}')].encode()
        answer.feed(start)
        piece = b"x" * 2**20
        for _ in range(31):
            answer.feed(piece)
        answer.feed(b"x" * (2**20 - len(start) - 4))
        answer.feed(b'"}]}' + b" " * extra, more=bool(extra))
        await answer.end()
    if extra:
        assert answer.error == (413, "request_too_large", "false")
        assert served.api.exchanges == []
    else:
        assert answer.body == b"".join(served.api.last.pieces)
        assert len(served.api.last.body) > 31 * 2**20


@pytest.mark.parametrize(
    ("path", "method", "error"),
    [
        ("/v1/chat/completions", "POST", (404, "not_found_error", "false")),
        ("/v1/complete", "POST", (404, "not_found_error", "false")),
        ("/v1/chat/%63ompletions", "POST", (404, "not_found_error", "false")),
        ("/", "GET", (404, "not_found_error", "false")),
        ("/v1", "GET", (404, "not_found_error", "false")),
        ("/v2/messages", "POST", (404, "not_found_error", "false")),
        ("/simulator/reset", "POST", (404, "not_found_error", "false")),
        ("/v1/../simulator/reset", "POST", (404, "not_found_error", "false")),
        ("/v1/..", "GET", (404, "not_found_error", "false")),
        ("/v1/%2e%2e/simulator/reset", "POST", (404, "not_found_error", "false")),
        ("/v1/%2E./simulator/reset", "POST", (404, "not_found_error", "false")),
        ("/v1/x%2f..%2f../simulator/reset", "POST", (404, "not_found_error", "false")),
        ("/v1/models", "OPTIONS", (405, "invalid_request_error", "false")),
        ("/v1/messages", "TRACE", (405, "invalid_request_error", "false")),
    ],
)
async def test_what_is_not_served_is_not_sent(serve, path, method, error):
    """What is not under /v1, however it is written, and what would use up limits unseen."""
    async with serve() as served:
        answer = await served.ask(prompt(), path, method=method).end()
    assert answer.error == error
    assert served.api.exchanges == []


async def test_who_leads_back_to_itself_is_told(serve):
    """A request that was here before is not sent round and round."""
    async with serve() as served:
        served.ask(prompt())
        await asyncio.sleep(0.1)
        again = await served.ask(prompt(), headers={"via": served.api.last.header("via")[0]}).end()
    assert (again.status, again.error[2]) == (508, "false")


@pytest.mark.parametrize(
    "path",
    ["/v1/%6dessages", "/v1/./messages", "/v1/%2e/messages", "/v1/.%2fmessages", "/v1/./chat/completions"],
)
async def test_a_message_by_another_spelling_of_its_path_was_not_paced(serve, path):
    """It is either paced or not sent."""
    async with serve() as served:
        answer = await served.ask(prompt(), path).end()
        paced = served.executor.snapshot().attempts
    assert len(served.api.exchanges) == paced
    assert answer.status in (200, 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-claude-executor-priority": "high"},
        {"x-claude-executor-priority": "1.5"},
        {"x-claude-executor-priority": ""},
        {"x-claude-executor-deadline": "soon"},
        {"x-claude-executor-deadline": "0"},
        {"x-claude-executor-deadline": "-1"},
        {"x-claude-executor-deadline": "nan"},
        {"x-claude-executor-deadline": "inf"},
        [("x-claude-executor-priority", "1"), ("x-claude-executor-priority", "2")],
    ],
)
async def test_headers_that_make_no_sense_are_refused(serve, headers):
    """By name, and before anything is sent."""
    async with serve() as served:
        answer = await served.ask(prompt(), headers=headers).end()
    assert answer.error == (400, "invalid_request_error", "false")
    assert dict(headers).popitem()[0] in answer.body.decode()
    assert served.api.exchanges == []


WORDS = st.text() | st.from_regex(r"[-+_0-9.eEinfa ]{0,12}") | st.floats().map(str) | st.integers().map(str)


@given(
    headers=st.fixed_dictionaries(
        {},
        optional={
            "x-claude-executor-priority": WORDS,
            "x-claude-executor-deadline": WORDS,
            "x-claude-executor-tenant": WORDS,
            "x-stainless-timeout": WORDS,
            "x-stainless-read-timeout": WORDS,
        },
    ),
    client=st.sampled_from(["", "named"]),
)
def test_headers_are_options_or_bad(headers, client):
    """Whatever they say; a client that has a name has it whatever it says."""
    try:
        options = options_of(headers, client)
    except BadHeader:
        assert {"x-claude-executor-priority", "x-claude-executor-deadline"} & headers.keys()
        return
    assert isinstance(options, RequestOptions)
    assert type(options.priority) is int
    assert options.tenant == (client or headers.get("x-claude-executor-tenant", ""))
    assert options.deadline is None or 0.0 < options.deadline < float("inf")


async def test_a_web_socket_is_not_served(serve):
    """Servers are told not to offer it."""
    async with serve(FLOWING) as served:
        with pytest.raises(RuntimeError, match="websocket"):
            await served.app({"type": "websocket"}, None, None)
