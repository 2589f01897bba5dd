"""Streamed responses, and every way in which they end.

The SDK's stream object is made on top of `StreamEvents`, which passes the SDK's own events on, counts what
they take, and says once how the answer ended: complete, broken or left. The SDK is silent about an answer
that just stops, lets errors of the layers below it through, and calls an overload within a stream a status of
200; here each of them is a failure.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, Self, cast

import httpx2
from anthropic import AsyncStream, not_given
from anthropic.lib.streaming import AsyncMessageStream
from anthropic.types import Message, RawMessageStreamEvent

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import Failure, FailureKind
from claude_executor.core.model.headers import NO_HINTS
from claude_executor.errors import StreamInterrupted
from claude_executor.sdk.failures import failure_from, hints_of
from claude_executor.sdk.outcome import FailedAttempt, Reply
from claude_executor.sdk.usage import usage_by_now, usage_from_sdk

if TYPE_CHECKING:
    from anthropic.lib.streaming import ParsedMessageStreamEvent
    from anthropic.types import RawContentBlockDelta

    from claude_executor.core.model.headers import ResponseHints

IDLE_TIMEOUT = 60.0
"""Seconds without an event, not even a ping, after which a stream is given up."""


class StreamEnding(Protocol):
    """Settles how a streamed response ended: one of three ways, once."""

    @property
    def attempts(self) -> int:
        """The number of attempts the request took."""
        ...

    def complete(self, usage: Usage) -> None:
        """Settle a response that is complete."""
        ...

    def broken(self, broken: FailedAttempt) -> StreamInterrupted:
        """Settle a response that broke off; return the exception for its reader."""
        ...

    def left(self, usage: Usage) -> None:
        """Settle a response that its reader abandoned."""
        ...


async def first_of(
    stream: AsyncStream[RawMessageStreamEvent], params: Mapping[str, object]
) -> "StreamEvents | FailedAttempt":
    """Wait for the first event: a failure before it is one like any other."""
    try:
        first = await stream.__anext__()
        # The SDK does not validate: a message_start may lack any field.
        message = first.message if first.type == "message_start" else None
        if getattr(message, "usage", None) is not None:
            return StreamEvents(stream, first, params)
        await stream.close()
    except StopAsyncIteration:
        return _ended_early(None)
    except Exception as error:  # whatever it is, the attempt must be settled
        return failure_from(error, params)
    return FailedAttempt(
        Failure(FailureKind.GARBLED, detail="the stream does not begin with message_start"), None
    )


class StreamEvents:
    """The events of a response that has begun, in place of the SDK's own `AsyncStream`."""

    def __init__(
        self,
        stream: AsyncStream[RawMessageStreamEvent],
        first: RawMessageStreamEvent,
        params: Mapping[str, object],
    ) -> None:
        self._stream = stream
        self._first = first
        self._params = params
        self._ending: StreamEnding | None = None
        self._message = _MessageStream(self)
        self._whole = False
        self._interrupted: StreamInterrupted | None = None
        self._attempts = 1
        self._written = 0
        self.usage = Usage()
        """The usage so far, as the API counts it."""
        self._note(first)

    @property
    def response(self) -> httpx2.Response:
        """The HTTP response, as the SDK's stream has it."""
        return self._stream.response

    @property
    def message_id(self) -> str | None:
        """The API's id of the message."""
        first = self._first
        return first.message.id if first.type == "message_start" else None

    @property
    def hints(self) -> "ResponseHints":
        """The hints in the headers of the response."""
        return hints_of(self.response.headers)

    def open(self, ending: StreamEnding) -> "AsyncMessageStream[None]":
        """Return the SDK's stream object; `ending` settles how it ends."""
        self._ending = ending
        self._attempts = ending.attempts
        return self._message

    async def collect(self) -> Reply[Message] | FailedAttempt:
        """Read all events, and return the response as it would have been without a stream."""
        outcome = _LoneEnding()
        stream = self.open(outcome)
        try:
            message = await stream.get_final_message()
        except StreamInterrupted:
            assert outcome.failed is not None
            return outcome.failed
        except Exception as error:  # the SDK could not parse the events
            return failure_from(error, self._params)
        finally:
            await stream.close()
        return Reply(_plain(message), self.usage, lambda: NO_HINTS)

    def __aiter__(self) -> AsyncIterator[RawMessageStreamEvent]:
        return self._run()

    async def _run(self) -> AsyncIterator[RawMessageStreamEvent]:
        yield self._first
        try:
            async for event in self._stream:
                self._note(event)
                if event.type == "message_stop":
                    self._whole = True
                    self._end_well()
                yield event
        except Exception as error:
            if self._ending is not None:  # a failure after the end does not matter
                raise self._broken(failure_from(error, self._params)) from error
        if self._ending is not None:
            raise self._broken(_ended_early(self.usage))
        self.require_whole()

    def require_whole(self) -> None:
        """Check that the response is complete, so that nobody takes a part of it for the whole.

        Raises:
            StreamInterrupted: The end of the response has not arrived.
        """
        if self._whole:
            return
        if self._interrupted is None:
            self._interrupted = self._with_what_came(
                StreamInterrupted(
                    "the stream was left before the response was complete: read all of it within the block",
                    kind=FailureKind.TRUNCATED,
                    attempts=self._attempts,
                )
            )
        raise self._interrupted

    async def close(self) -> None:
        """Abandon the rest of the response."""
        if self._ending is not None:
            ending, self._ending = self._ending, None
            ending.left(self._usage_by_now())
        await self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _end_well(self) -> None:
        if self._ending is not None:
            ending, self._ending = self._ending, None
            ending.complete(self.usage)

    def _broken(self, broken: FailedAttempt) -> StreamInterrupted:
        assert self._ending is not None
        ending, self._ending = self._ending, None
        failure = replace(broken.failure, usage=self._usage_by_now())
        self._interrupted = self._with_what_came(ending.broken(FailedAttempt(failure, broken.cause)))
        return self._interrupted

    def _with_what_came(self, interrupted: StreamInterrupted) -> StreamInterrupted:
        interrupted.message = self._partial()
        interrupted.usage = self._usage_by_now()
        return interrupted

    def _partial(self) -> Message | None:
        try:
            return _plain(self._message.current_message_snapshot)
        except AssertionError:  # the SDK has no first event yet
            return None

    def _usage_by_now(self) -> Usage:
        return usage_by_now(self.usage, self._written)

    def _note(self, event: RawMessageStreamEvent) -> None:
        if event.type == "message_start":
            self.usage = usage_from_sdk(event.message.usage)
        elif event.type == "message_delta":
            u, now = self.usage, event.usage  # cumulative; a missing field keeps its value
            searches = now.server_tool_use.web_search_requests if now.server_tool_use else None
            self.usage = u._replace(
                input_tokens=_or(now.input_tokens, u.input_tokens),
                output_tokens=_or(now.output_tokens, u.output_tokens),
                cache_creation_tokens=_or(now.cache_creation_input_tokens, u.cache_creation_tokens),
                cache_read_tokens=_or(now.cache_read_input_tokens, u.cache_read_tokens),
                searches=_or(searches, u.searches),
            )
        elif event.type == "content_block_delta":
            self._written += len(_text_of(event.delta).encode("utf-8", "surrogatepass"))


class _MessageStream(AsyncMessageStream[None]):
    """The SDK's stream object, which by itself takes any end of the events for the end of the response."""

    def __init__(self, events: StreamEvents) -> None:
        super().__init__(cast("AsyncStream[RawMessageStreamEvent]", events), output_format=not_given)
        self._events = events

    async def __aiter__(self) -> "AsyncIterator[ParsedMessageStreamEvent[None]]":
        async for event in super().__aiter__():
            yield event
        self._events.require_whole()


class _LoneEnding:
    """Remembers how a response ended that is read whole before anybody sees any of it."""

    attempts = 1

    def __init__(self) -> None:
        self.failed: FailedAttempt | None = None

    def complete(self, usage: Usage) -> None:
        del usage

    def broken(self, broken: FailedAttempt) -> StreamInterrupted:
        self.failed = broken
        return StreamInterrupted("", kind=broken.failure.kind, attempts=0)

    def left(self, usage: Usage) -> None:
        del usage


def _text_of(delta: "RawContentBlockDelta") -> str:
    if delta.type == "text_delta":
        return delta.text
    if delta.type == "thinking_delta":
        return delta.thinking
    return delta.partial_json if delta.type == "input_json_delta" else ""


def _plain(message: Message) -> Message:
    """Return the message as it would be without a stream: the SDK's streams use a class of their own."""
    return Message.construct(None, **message.to_dict())


def _ended_early(usage: Usage | None) -> FailedAttempt:
    detail = "the response ended before it was complete"
    return FailedAttempt(Failure(FailureKind.TRUNCATED, detail=detail, usage=usage), None)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
