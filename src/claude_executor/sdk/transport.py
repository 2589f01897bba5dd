"""Calls the SDK, and turns its responses and exceptions into outcomes that the core understands.

The SDK's own retries are off: it would sleep without jitter, hold the slot meanwhile, and ignore the other
requests.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import cast

import anthropic
import httpx2
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import Failure, FailureKind
from claude_executor.core.model.headers import NO_HINTS, ResponseHints
from claude_executor.sdk.failures import CONNECTION_ERRORS, failure_from, hints_of
from claude_executor.sdk.http_client import CONNECT_TIMEOUT
from claude_executor.sdk.outcome import FailedAttempt, Reply
from claude_executor.sdk.streaming import IDLE_TIMEOUT, StreamEvents, first_of
from claude_executor.sdk.usage import usage_from_sdk
from claude_executor.sdk.validation import key_problem

_Count = Callable[..., Awaitable["anthropic.AsyncAPIResponse[MessageTokensCount]"]]
_Create = Callable[..., Awaitable["anthropic.AsyncAPIResponse[Message]"]]


class Transport:
    """Makes attempts. Never raises for what the API or the network does, but lets cancellation through."""

    def __init__(self, client: anthropic.AsyncAnthropic, *, timeout: float) -> None:
        """`timeout` is how many seconds a response may take."""
        self._client = client.with_options(max_retries=0)
        # A timeout of our own also lifts the SDK's refusal of long answers without streaming.
        self._timeout = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
        # A mapping does not satisfy the SDK's overloads; the API itself says what is wrong with one.
        self._create = cast("_Create", self._client.messages.with_raw_response.create)
        flaw = key_problem(self._client.default_headers)
        self._flaw = None if flaw is None else Failure(FailureKind.AUTHENTICATION, detail=flaw)
        self._known = frozenset(inspect.signature(self._client.messages.create).parameters)

    async def send(
        self, params: Mapping[str, object], begun: Callable[[Usage, ResponseHints], object] | None = None
    ) -> Reply[Message] | FailedAttempt:
        """Make one attempt. `begun` is called when a response begins that `takes_long`."""
        if self._flaw is not None:
            return FailedAttempt(self._flaw, None)
        if self.takes_long(params):
            return await self._send_long(params, begun)
        try:
            response = await self._create(**self._arguments(params))
        except Exception as error:  # whatever it is, the attempt must be settled
            return failure_from(error, params)
        answer: object = response
        if isinstance(answer, Message):  # a middleware of the client has answered
            return Reply(answer, usage_from_sdk(answer.usage), lambda: NO_HINTS)
        return await self._read(response)

    async def count_tokens(self, params: Mapping[str, object]) -> Reply[int] | FailedAttempt:
        """Make one attempt to count the input tokens of a request; send only what affects the count."""
        if self._flaw is not None:
            return FailedAttempt(self._flaw, None)
        messages = self._client.messages
        known = inspect.signature(messages.count_tokens).parameters
        arguments = {"timeout": self._timeout, **{name: params[name] for name in params if name in known}}
        count = cast("_Count", messages.with_raw_response.count_tokens)
        try:
            response = await count(**arguments)
            answer: object = (
                await response.parse() if isinstance(response, anthropic.AsyncAPIResponse) else response
            )
        except Exception as error:  # whatever it is, the attempt must be settled
            return failure_from(error, params)
        tokens = getattr(answer, "input_tokens", None)
        if isinstance(tokens, int):
            return Reply(tokens, None, lambda: NO_HINTS)
        return FailedAttempt(Failure(FailureKind.GARBLED, detail="the response has no count"), None)

    @staticmethod
    def takes_long(params: Mapping[str, object]) -> bool:
        """Whether a response may take so long that the SDK insists on a stream.

        Networks drop idle connections; so the SDK insists on streams where more than ten minutes are
        possible, at 128,000 tokens an hour.
        """
        most = params.get("max_tokens")
        return isinstance(most, int) and 3_600.0 * most / 128_000.0 > 600.0

    async def _send_long(
        self, params: Mapping[str, object], begun: Callable[[Usage, ResponseHints], object] | None
    ) -> Reply[Message] | FailedAttempt:
        """Make one attempt by a stream, which may last until the timeout of the request, if it has one."""
        own, idle_timeout = params.get("timeout"), IDLE_TIMEOUT
        most = own if isinstance(own, (int, float)) else None
        if most is not None:
            params, idle_timeout = (
                {name: params[name] for name in params if name != "timeout"},
                min(IDLE_TIMEOUT, most),
            )
        try:
            async with asyncio.timeout(most):
                events = await self.open(params, idle_timeout=idle_timeout)
                if isinstance(events, FailedAttempt):
                    return events
                if begun is not None:
                    begun(events.usage, events.hints)
                return await events.collect()
        except TimeoutError as error:
            return FailedAttempt(Failure(FailureKind.TIMEOUT, detail="no response in time"), error)

    async def open(
        self, params: Mapping[str, object], *, idle_timeout: float
    ) -> StreamEvents | FailedAttempt:
        """Make one attempt to stream an answer, and wait for its first event.

        `idle_timeout` is how many seconds may pass without a sign of life, unless the request has a timeout
        of its own.
        """
        if self._flaw is not None:
            return FailedAttempt(self._flaw, None)
        arguments = {**self._arguments(params), "stream": True}
        if params.get("timeout") is None:
            arguments["timeout"] = httpx2.Timeout(idle_timeout, connect=self._timeout.connect)
        try:
            response = await self._create(**arguments)
            stream = cast("anthropic.AsyncStream[RawMessageStreamEvent]", await response.parse())
        except Exception as error:  # whatever it is, the attempt must be settled
            return failure_from(error, params)
        return await first_of(stream, params)

    def _arguments(self, params: Mapping[str, object]) -> dict[str, object]:
        """Move parameters unknown to the SDK (such as `temperature` since 1.0) into the body as they are."""
        arguments = {"timeout": self._timeout, **params}
        unknown = params.keys() - self._known
        if unknown:
            extra = dict(_mapping(arguments.get("extra_body")))
            extra.update((name, arguments.pop(name)) for name in unknown)
            arguments["extra_body"] = extra
        return arguments

    async def _read(self, response: "anthropic.AsyncAPIResponse[Message]") -> Reply[Message] | FailedAttempt:
        cause: Exception | None = None
        try:
            message = await message_of(response)
        except CONNECTION_ERRORS as error:
            return failure_from(error)
        except Exception as error:  # a body that is not JSON may raise anything
            cause = error
        else:
            # The SDK does not validate: a body that is not JSON comes back as text, a field may be missing.
            usage = getattr(message, "usage", None)
            if isinstance(message, Message) and usage is not None and message.stop_reason is not None:
                return Reply(message, usage_from_sdk(usage), partial(hints_of, response.headers))
        failure = Failure(
            FailureKind.GARBLED,
            hints_of(response.headers),
            status=response.status_code,
            detail="the response is incomplete or is not JSON",
            request_id=response.headers.get("request-id"),
        )
        return FailedAttempt(failure, cause)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


async def message_of(response: "anthropic.AsyncAPIResponse[Message]") -> object:
    """Return what ``response.parse()`` returns: a `Message`, or what the SDK makes of something else.

    One difference remains: `model_fields_set` also has the fields that the model does not declare.

    Raises:
        Exception: What the SDK raises for a body that is not a message, or that breaks off.
    """
    # A middleware of the client may have parsed and changed it, and the SDK would return just that.
    untouched = type(response) is anthropic.AsyncAPIResponse and not getattr(
        response, "_parsed_by_type", True
    )
    if not untouched:
        return await response.parse()
    body = await response.read()
    try:
        # Strictly: a value that needs conversion is not as declared, and the SDK leaves it as it came.
        message = Message.model_validate_json(body, strict=True)
    except ValueError:
        return await response.parse()
    message._request_id = response.request_id  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented
    message._workspace_id = response.workspace_id  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return message
