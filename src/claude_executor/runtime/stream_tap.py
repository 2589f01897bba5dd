"""Observes a streamed response that another reader consumes: forwards the bytes, records usage and ending.

The SDK makes its own stream object of the bytes, for its caller. The tap only notes what the response uses
and how it ends, so that its place in flight and its estimate are given back once, however it is read: to its
end, closed early, dropped, or kept and never read.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import anthropic
import httpx2
import orjson

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import Failure, FailureKind
from claude_executor.runtime.dispatch.attempt import AttemptContext, NestedRequest
from claude_executor.runtime.dispatch.pump import Pump, StreamHandle
from claude_executor.sdk.failures import failure_from, hints_of
from claude_executor.sdk.outcome import FailedAttempt
from claude_executor.sdk.streaming import IDLE_TIMEOUT
from claude_executor.sdk.usage import usage_by_now, usage_from_json

if TYPE_CHECKING:
    from claude_executor.core.model.job import Job

_STALE = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that are no longer true of a body once it is decoded."""

Ending = Callable[[StreamHandle | NestedRequest], object]


class StreamTap:
    """The state of one response that is read elsewhere, possibly in another thread.

    Attributes:
        response: The response as it came.
        begun: Whether its first event has come.
        failed: The failure that has ended it, if any.
        reading: Whether its reader is waiting for the next piece.
    """

    def __init__(self, response: httpx2.Response, params: Mapping[str, object]) -> None:
        self.response = response
        self.begun = False
        self.failed: FailedAttempt | None = None
        self.reading = False
        self._params = params
        # Amazon Bedrock's streams are binary: they are passed on, and their usage is not known.
        self._legible = response.headers.get("content-type", "").startswith("text/event-stream")
        self._rest = b""
        self._usage: dict[str, object] = {}
        self._written = 0
        self._ending: Ending | None = None
        self._message_id: object = None
        self._following: StreamHandle | NestedRequest | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._read_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._others: set[Callable[[], None]] = set()

    # ---- on the executor's event loop

    def follow(self, pump: Pump, job: "Job") -> None:
        """Report to the pump from now on: the response is that of a job."""
        self._following = pump.on_response_started(job, self._usage_by_now(), hints_of(self.response.headers))
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._others = pump.closing
        self._others.add(self.leave_unless_reading)
        self._read_at = self._loop.time()
        if self._ending is not None:
            self._tell(self._ending)
        else:
            self._timer = self._loop.call_later(IDLE_TIMEOUT, self._look)

    def follow_part(self, turn: AttemptContext) -> None:
        """Report to an attempt from now on: the response is part of it, and uses its place."""
        self._following = turn.part(self._message_id)
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        if self._ending is not None:
            self._tell(self._ending)

    def leave_unless_reading(self) -> None:
        """Abandon the response if its reader is not waiting for it: the executor is being closed."""
        if not self.reading:
            self.left()

    def _look(self) -> None:
        """Abandon the response if nobody has read it for `IDLE_TIMEOUT`: others wait for its place."""
        assert self._loop is not None
        away = 0.0 if self.reading else self._loop.time() - self._read_at
        if away >= IDLE_TIMEOUT:
            self.left()
        else:
            self._timer = self._loop.call_later(IDLE_TIMEOUT - away, self._look)

    def _tell(self, ending: Ending) -> None:
        if self._following is not None:
            following, self._following = self._following, None
            self._others.discard(self.leave_unless_reading)
            if self._timer is not None:
                self._timer.cancel()
            ending(following)

    # ---- wherever it is read

    def pause(self) -> None:
        """Note that the reader has a piece and is busy with it."""
        self.reading = False
        if self._loop is not None:
            self._read_at = self._loop.time()

    def passed(self, piece: bytes) -> bytes:
        """Observe a piece, and return it for the reader."""
        self.observe(piece)
        self.pause()
        return piece

    def observe(self, piece: bytes) -> None:
        """Note what a piece of the response says of its usage and its ending."""
        if not self._legible:
            self.begun = True
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                with contextlib.suppress(
                    ValueError, TypeError, KeyError, AttributeError
                ):  # not an event of the API
                    self._note(orjson.loads(line[5:]))

    def _note(self, event: dict[str, object]) -> None:
        kind = event["type"]
        if kind == "message_start":
            message = cast("dict[str, object]", event["message"])
            self._count(message)
            self._message_id = message.get("id")
            self.begun = True
        elif kind == "message_delta":
            self._count(event)
        elif kind == "content_block_delta":
            delta = cast("dict[str, object]", event["delta"])
            text = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
            self._written += len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
        elif kind == "message_stop":
            usage = usage_from_json(self._usage)
            self._end(lambda following: following.complete(usage))
        elif kind == "error":
            self.broke(anthropic.APIStatusError("", response=self.response, body=event))

    def broke(self, error: Exception) -> None:
        """Note that the response broke off."""
        self._broken(failure_from(error, self._params))

    def stopped(self) -> None:
        """Note that no more pieces come."""
        if self._legible:
            early = Failure(FailureKind.TRUNCATED, detail="the response ended before it was complete")
            self._broken(FailedAttempt(early, None))
        else:
            self._end(lambda following: following.complete(None))

    def _broken(self, broken: FailedAttempt) -> None:
        if self._ending is None:
            usage = self._usage_by_now() if self.begun else None
            self.failed = failed = FailedAttempt(replace(broken.failure, usage=usage), broken.cause)
            self._end(lambda following: following.broken(failed))

    def left(self) -> None:
        """Note that the reader abandons the response."""
        usage = self._usage_by_now()
        self._end(lambda following: following.left(usage))

    def _count(self, holder: Mapping[str, object]) -> None:
        """Update the usage, which is cumulative: a field that is missing keeps its value."""
        used = cast("dict[str, object]", holder["usage"])
        self._usage |= {name: value for name, value in used.items() if value is not None}

    def _usage_by_now(self) -> Usage:
        return usage_by_now(usage_from_json(self._usage), self._written)

    def _end(self, ending: Ending) -> None:
        if self._ending is not None:
            return
        self._ending = ending
        if self._thread == threading.get_ident():
            self._tell(ending)
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it everything is over
                self._loop.call_soon_threadsafe(self._tell, ending)

    def dropped(self) -> None:
        """Abandon a response that nobody can read. The garbage collector calls this, in any thread."""
        if self._loop is not None and self._following is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.left)


class _Body:
    """The pieces of a response that another reader consumes: what both kinds have in common.

    `begin` reads ahead as far as the first event. Iterating yields what was read ahead, and the rest as it
    comes.
    """

    def __init__(self, tap: StreamTap) -> None:
        self.tap = tap
        self._ahead: list[bytes] = []
        self._error: Exception | None = None
        weakref.finalize(self, tap.dropped).atexit = False

    @property
    def elapsed(self) -> timedelta | None:
        """The time of the response, as the SDK's transport measures it for ``Response.elapsed``."""
        return cast("timedelta | None", getattr(self.tap.response.stream, "elapsed", None))

    def _observed(self, piece: bytes) -> bool:
        """Keep a piece that was read ahead. Whether it shows that the response has begun, or failed."""
        self._ahead.append(piece)
        self.tap.observe(piece)
        return self.tap.begun or self.tap.failed is not None

    def _failed(self, error: Exception) -> None:
        self._error = error
        self.tap.broke(error)

    def _read_ahead(self) -> Iterator[bytes]:
        """Yield the pieces that were read ahead; raise what ended them, if anything did."""
        for piece in self._ahead:
            self.tap.pause()
            yield piece
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def _reading(self) -> Generator[StreamTap, None, None]:
        """Read the rest of the response, and settle how it ends."""
        tap = self.tap
        try:
            tap.reading = True
            yield tap
        except Exception as error:
            tap.broke(error)
            raise
        finally:
            tap.pause()
        tap.stopped()


class AsyncBody(_Body, httpx2.AsyncByteStream):
    """The body of a response to the asynchronous client."""

    def __init__(self, tap: StreamTap) -> None:
        super().__init__(tap)
        self._pieces = tap.response.aiter_bytes()

    async def begin(self) -> StreamTap | FailedAttempt:
        """Read as far as the first event: a failure before it is one like any other."""
        try:
            async for piece in self._pieces:
                if self._observed(piece):
                    break
            else:
                self.tap.stopped()
        except Exception as error:  # whatever it is, the attempt must be settled
            self._failed(error)
        if self.tap.failed is None:
            return self.tap
        await self.tap.response.aclose()
        return self.tap.failed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._read_ahead():
            yield piece
        with self._reading() as tap:
            async for piece in self._pieces:
                yield tap.passed(piece)
                tap.reading = True

    async def aclose(self) -> None:
        """Abandon the rest of the response."""
        self.tap.left()
        await self.tap.response.aclose()


class SyncBody(_Body, httpx2.SyncByteStream):
    """The body of a response to the synchronous client."""

    def __init__(self, tap: StreamTap) -> None:
        super().__init__(tap)
        self._pieces = tap.response.iter_bytes()

    def begin(self) -> StreamTap | FailedAttempt:
        """Read as far as the first event; see `AsyncBody.begin`."""
        try:
            for piece in self._pieces:
                if self._observed(piece):
                    break
            else:
                self.tap.stopped()
        except Exception as error:  # whatever it is, the attempt must be settled
            self._failed(error)
        if self.tap.failed is None:
            return self.tap
        self.tap.response.close()
        return self.tap.failed

    def __iter__(self) -> Iterator[bytes]:
        yield from self._read_ahead()
        with self._reading() as tap:
            for piece in self._pieces:
                yield tap.passed(piece)
                tap.reading = True

    def close(self) -> None:
        """Abandon the rest of the response."""
        self.tap.left()
        self.tap.response.close()


def tapped(body: AsyncBody | SyncBody) -> httpx2.Response:
    """Return the tapped response again, with `body` for its body."""
    was = body.tap.response
    headers = [(name, value) for name, value in was.headers.raw if name.lower().decode() not in _STALE]
    return httpx2.Response(
        was.status_code,
        headers=headers,
        stream=body,
        request=was.request,
        extensions=was.extensions,
        history=was.history,
    )
