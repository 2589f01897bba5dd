"""How a stream of events ends, which is told by its last event and by nothing else.

A connection that is closed in the middle looks like an end: the SDKs take what has come for the whole. So an
answer that just stops is given an end that cannot be taken for one.
"""

from collections.abc import AsyncIterator

from claude_executor.gateway.refusals import Refusal, refusal_of

_LAST = (b"event: message_stop", b"event: error")
_BROKEN_OFF = Refusal(502, "api_error", "the API has broken off its answer before it was complete")


async def whole_or_error(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces as they come; if they stop before the end, for whatever reason, an ``error`` event."""
    line, ended = b"", False
    refusal = _BROKEN_OFF
    try:
        async for piece in pieces:
            *lines, line = (line + piece).split(b"\n")
            ended = ended or any(one.rstrip().startswith(_LAST) for one in lines)
            yield piece
    except Exception as error:
        refusal = refusal_of(error) or _BROKEN_OFF
    if not ended:
        yield b"\n\n" + refusal.event
