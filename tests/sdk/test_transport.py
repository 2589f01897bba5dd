"""An answer is the same object, whichever way it was read."""

import copy
import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from claude_executor import Executor
from claude_executor.sdk.transport import message_of

USAGE: dict[str, Any] = {
    "input_tokens": 10,
    "output_tokens": 3,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    "service_tier": "standard",
    "inference_geo": "global",
}
CITATION = {
    "type": "char_location",
    "cited_text": "x",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
    "file_id": None,
}
BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "Grüße, \u2028 \"Welt\" \\ \U0001f600"},
    {"type": "text", "text": "", "citations": [CITATION]},
    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"z": 1, "a": [{"b": 2**70}], "": -0.0}},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1",
     "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e", "page_age": None}]},
    {"type": "not invented yet", "text": "?"},
]  # fmt: skip
ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": BLOCKS[:1],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
PROMPT: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Hello"}],
}


async def both(body: bytes, content_type: str = "application/json") -> tuple[object, object]:
    """What we read out of a response, and what the SDK does."""

    def respond(_: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": content_type, "request-id": "req_1", "anthropic-workspace-id": "wrk_1"}
        return httpx2.Response(200, headers=headers, content=body)

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    async with anthropic.AsyncAnthropic(api_key="k", max_retries=0, http_client=http_client) as client:

        async def read(how: Callable[[Any], Any]) -> object:
            response = await client.messages.with_raw_response.create(**PROMPT)
            try:
                return await how(response)
            except Exception as error:
                return repr(error)

        return await read(message_of), await read(lambda response: response.parse())


def told(value: object) -> object:
    """All there is to be told of it, with the types of its parts, in their order."""
    if isinstance(value, anthropic.BaseModel):
        fields = [(name, told(part)) for name, part in {**vars(value), **(value.model_extra or {})}.items()]
        return type(value), sorted(value.model_fields_set & type(value).model_fields.keys()), fields
    if isinstance(value, list):
        return [told(part) for part in value]
    if isinstance(value, dict):
        return [(name, told(part)) for name, part in value.items()]
    return type(value), repr(value)


def same(ours: object, theirs: object) -> None:
    """Fail unless nobody could tell them apart."""
    assert told(ours) == told(theirs)
    if isinstance(ours, Message) and isinstance(theirs, Message):
        assert (ours._request_id, ours._workspace_id) == (theirs._request_id, theirs._workspace_id)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["type"])
async def test_every_kind_of_content_is_read_as_the_sdk_reads_it(block: dict[str, Any]) -> None:
    ours, theirs = await both(json.dumps({**ANSWER, "content": [BLOCKS[0], block]}).encode())
    same(ours, theirs)
    assert isinstance(ours, Message)
    assert ours._request_id == "req_1"
    assert ours._workspace_id == "wrk_1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"<html>",
        b"\xff",
        b"{}",
        b'\xef\xbb\xbf{"type": "message"}',
        json.dumps(ANSWER).encode("utf-16"),
        json.dumps(ANSWER).replace("Gr", "\\ud800").encode(),
        json.dumps(ANSWER).replace('"id"', '"id": "msg_0", "id"', 1).encode(),
        json.dumps({**ANSWER, "usage": {**USAGE, "input_tokens": float("nan")}}).encode(),
        json.dumps({**ANSWER, "usage": {**USAGE, "input_tokens": "12"}}).encode(),
        json.dumps({**ANSWER, "usage": {**USAGE, "output_tokens": 3.0}}).encode(),
        json.dumps(
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        ).encode(),
    ],
    ids=lambda value: str(value)[:24],
)
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "text/plain"]
)
async def test_what_is_no_answer_is_read_as_the_sdk_reads_it(body: bytes, content_type: str) -> None:
    same(*await both(body, content_type))


ODD = st.sampled_from(
    [None, True, 0, -1, 1.0, 1.5, "", "12", "end_turn", "message", [], {}, [None], {"type": "text"}]
).map(copy.deepcopy)


@st.composite
def odd_answers(draw: st.DrawFn) -> dict[str, Any]:
    """An answer in which something is missing, of another kind, or new."""
    answer = copy.deepcopy({**ANSWER, "content": draw(st.lists(st.sampled_from(BLOCKS), max_size=3))})
    for _ in range(draw(st.integers(1, 3))):
        part: Any = answer
        while True:
            inner = [value for value in (part.values() if isinstance(part, dict) else part)
                     if value and isinstance(value, dict | list)]  # fmt: skip
            if not inner or draw(st.booleans()):
                break
            part = draw(st.sampled_from(inner))
        if isinstance(part, list):
            part.append(draw(ODD))
        else:
            name = draw(st.sampled_from([*part, "brand_new"]))
            part.pop(name, None)
            if draw(st.booleans()):
                part[name] = draw(ODD)
    return answer


@given(answer=odd_answers())
async def test_an_odd_answer_is_read_as_the_sdk_reads_it(answer: dict[str, Any]) -> None:
    same(*await both(json.dumps(answer).encode()))


async def test_a_usual_answer_does_not_take_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[object] = []

    async def parse(self: object) -> None:
        ways.append(self)

    monkeypatch.setattr(anthropic.AsyncAPIResponse, "parse", parse)
    ours, _ = await both(json.dumps(ANSWER).encode())
    assert isinstance(ours, Message)
    assert len(ways) == 1  # that of the SDK itself


async def test_what_a_middleware_changed_in_an_answer_was_lost() -> None:
    async def redact(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        (await response.parse()).content[0].text = "redacted"
        return response

    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=ANSWER)

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    client = anthropic.AsyncAnthropic(api_key="k", http_client=http_client, middleware=[redact])
    async with client, Executor(client=client) as executor:
        message = await executor.submit(PROMPT)
    assert message.content[0].text == "redacted"  # type: ignore[union-attr]


async def test_what_a_middleware_answers_itself_is_the_answer() -> None:
    async def answer(request: Any, call_next: Any) -> Any:
        del request, call_next
        return Message.model_validate(ANSWER)

    client = anthropic.AsyncAnthropic(api_key="k", middleware=[answer])
    async with client, Executor(client=client) as executor:
        message = await executor.submit(PROMPT)
    assert message.id == "msg_1"
