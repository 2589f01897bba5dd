"""How a stream of events ends, which is told by its last event and by nothing else.

A connection that is closed in the middle looks like an end: the SDKs take what has come for the whole. So an
answer that just stops is given an end that cannot be taken for one. Events are passed on whole: after half of
one nothing could be said that an SDK would understand.
"""

import re
from collections.abc import AsyncIterator

from claude_executor.gateway.refusals import ErrorReply, error_reply_for

_BLANK = re.compile(rb"\n\r?\n")
_LAST = re.compile(rb"^event: ?(message_stop|error)\r?$", re.MULTILINE)
_BROKEN_OFF = ErrorReply(502, "api_error", "the API has broken off its answer before it was complete")


async def terminated_sse(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events as they come; if they stop before the end, for whatever reason, an ``error`` event."""
    begun, ended = b"", False
    refusal = _BROKEN_OFF
    try:
        async for piece in pieces:
            begun += piece
            end = max((blank.end() for blank in _BLANK.finditer(begun)), default=0)
            events, begun = begun[:end], begun[end:]
            if events:
                ended = ended or _LAST.search(events) is not None
                yield events
    except Exception as error:
        refusal = error_reply_for(error) or _BROKEN_OFF
    if not ended:
        yield refusal.event
