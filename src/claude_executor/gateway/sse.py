"""Proper endings for streams of server-sent events: an interrupted stream ends with an ``error`` event.

SDKs recognize the end of a stream only by its last event. If the connection just closes, they take the
partial answer for a complete one. Events are forwarded whole, because an ``error`` event after half an event
could not be parsed.
"""

import re
from collections.abc import AsyncIterator

from claude_executor.gateway.error_replies import ErrorReply, error_reply_for

_EVENT_END = re.compile(rb"\n\r?\n")
_FINAL_EVENT = re.compile(rb"^event: ?(message_stop|error)\r?$", re.MULTILINE)
_INTERRUPTED = ErrorReply(
    502, "api_error", "the API's response ended before it was complete; send the request again"
)


async def terminated_sse(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the events of a stream as they arrive, and an ``error`` event if it ends early for any reason."""
    buffered, ended = b"", False
    reply = _INTERRUPTED
    try:
        async for chunk in chunks:
            buffered += chunk
            complete = max((match.end() for match in _EVENT_END.finditer(buffered)), default=0)
            events, buffered = buffered[:complete], buffered[complete:]
            if events:
                ended = ended or _FINAL_EVENT.search(events) is not None
                yield events
    except Exception as error:
        reply = error_reply_for(error) or _INTERRUPTED
    if not ended:
        yield reply.event
