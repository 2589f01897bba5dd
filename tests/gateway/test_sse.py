"""Streams that the API breaks off: the client cannot take what has come for the whole."""

import asyncio
import json
from itertools import pairwise

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.gateway_harness import prompt

from claude_executor.gateway.sse import terminated_sse
from claude_executor.simulator import Faults
from claude_executor.testing import run_virtual

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-haiku-5-5",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 1},
    },
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
DELTA = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": "event: message_stop\n\nevent: error"},
}
END = [
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def written(events, newline="\n"):
    """As the API writes them."""
    lines = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
    return lines.replace("\n", newline).encode()


async def collected(pieces, error=None):
    async def source():
        for piece in pieces:
            yield piece
        if error is not None:
            raise error

    return [piece async for piece in terminated_sse(source())]


@given(
    last=st.sampled_from([END[-1], ERROR]),
    newline=st.sampled_from(["\n", "\r\n"]),
    cuts=st.lists(st.integers(0, 1_000), max_size=12),
    kept=st.integers(0, 1_000),
    error=st.sampled_from([None, httpx2.ReadError("reset")]),
)
def test_an_end_is_added_to_what_has_none(last, newline, cuts, kept, error):
    """However the bytes are cut: what came whole is passed on as it is, and of two ends none is ours."""
    whole = written([START, BLOCK, DELTA, *END[:-1], last], newline)
    came = whole[:kept]
    edges = sorted({0, len(came), *(cut for cut in cuts if cut < len(came))})
    pieces = [came[a:b] for a, b in pairwise(edges)]
    given_back = run_virtual(collected(pieces, error))
    blank = 2 * newline.encode()
    events = came[: came.rfind(blank) + len(blank)] if blank in came else b""
    if kept >= len(whole):
        assert b"".join(given_back) == whole
    else:
        *before, ours = given_back
        assert b"".join(before) == events
        assert ours.startswith(b"event: error\ndata: {")
        assert json.loads(ours.split(b"data: ")[1])["error"]["type"] == "api_error"
        assert ours.endswith(b"}\n\n")


def test_events_are_not_kept_back():
    """Each is passed on with the piece that ends it."""
    events = [written([event]) for event in (START, BLOCK, DELTA, *END)]
    assert run_virtual(collected(events)) == events
    after = [*events, written([{"type": "ping"}])]
    assert run_virtual(collected(after)) == after
    halves = [half for event in events for half in (event[:9], event[9:])]
    assert run_virtual(collected(halves)) == events


async def create_stream(client):
    return [event async for event in await client.messages.create(**prompt(stream=True))]


async def stream(client):
    async with client.messages.stream(**prompt()) as stream:
        return await stream.get_final_message()


@pytest.mark.parametrize("door", [create_stream, stream])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("stream_dropped", "api_error"),
        ("stream_cut", "api_error"),
        ("stream_overloaded", "overloaded_error"),
        ("stream_rate_limited", "rate_limit_error"),
    ],
)
async def test_a_broken_stream_is_an_error_to_the_sdk(serve, door, fault, kind):
    """Also where the connection just ended; it is told once, and not asked for again."""
    async with serve(faults=Faults(**{fault: 1.0})) as served:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await door(served.sdk())
        assert served.free
        assert served.executor._scheduler.event_buffer.counters.failed == 1
    assert raised.value.type == kind
    assert "of its own" not in str(raised.value)
    assert len(served.api.exchanges) == 1


@pytest.mark.parametrize("cut", [10, 40, -3, -1])
async def test_half_an_event_was_no_json_to_the_sdk(serve, cut):
    """A stream that breaks off within an event ends in the SDK's own error like any other."""

    async def api(scope, receive, send):
        await receive()
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        body = written([START, BLOCK]) + written([DELTA])[:cut]
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async with serve(api=api) as served:
        with pytest.raises(anthropic.APIStatusError, match="ended before it was complete") as raised:
            await stream(served.sdk())
    assert raised.value.type == "api_error"


async def test_a_stalled_stream_ends(serve):
    """After the time that a client has, it is told of the API's silence."""
    async with serve(faults=Faults(stream_stalled=1.0)) as served:
        answer = await asyncio.wait_for(served.ask(prompt(stream=True)).end(), 700.0)
    assert b'"timeout_error"' in answer.pieces[-1]
    assert answer.over
