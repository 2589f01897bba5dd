"""The SDK, replaced: answers that are there at once, and the small rows that ask for them."""

import email.utils
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

MODEL = "claude-haiku-5-5"
IN_FLIGHT = 100
AMPLE = 6e9
"""A limit per minute that nothing here reaches."""

ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "One."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 3},
}

Params = dict[str, Any]


def tiny(number: int) -> Params:
    """A row."""
    return {
        "model": MODEL,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": f"Say {number}."}],
        "metadata": {"user_id": f"row-{number}"},
    }


class Stub:
    """Looks like an SDK client as far as the executor looks; its answers are there at once.

    While `gate` is set, requests wait for it: that is how a queue is made.
    """

    def __init__(self) -> None:
        import anthropic
        import httpx2
        from anthropic.types import Message

        self.gate: asyncio.Event | None = None
        self.messages = self.with_raw_response = self
        self.default_headers = {"x-api-key": "k"}
        in_a_second = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
        headers = {"date": email.utils.formatdate(usegmt=True), "request-id": "req_1"}
        headers |= {"content-type": "application/json", "content-length": str(len(json.dumps(ANSWER)))}
        for name in ("requests", "tokens", "input-tokens", "output-tokens"):
            headers[f"anthropic-ratelimit-{name}-limit"] = str(int(AMPLE))
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(int(AMPLE))
            headers[f"anthropic-ratelimit-{name}-reset"] = in_a_second
        http = httpx2.Response(200, headers=headers, content=json.dumps(ANSWER))
        self.raw: anthropic.AsyncAPIResponse[Message] = anthropic.AsyncAPIResponse(
            raw=http, cast_to=Message, client=None, stream=False, stream_cls=None, options=None
        )  # type: ignore[arg-type]

    def with_options(self, **_: object) -> "Stub":
        return self

    async def create(  # the executor asks which names it takes
        self,
        *,
        model: str,
        max_tokens: int,
        messages: object,
        metadata: object = None,
        extra_body: object = None,
        timeout: object = None,
    ) -> object:
        del model, max_tokens, messages, metadata, extra_body, timeout
        if self.gate is not None:
            await self.gate.wait()
        return self.raw
