"""Somebody else's coroutine function as an attempt: what it will cost, what it took, how it failed."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias, TypeVar, cast

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.headers import NO_HINTS
from claude_executor.core.model.request import RequestShape, shape_of
from claude_executor.runtime.estimate import Estimate
from claude_executor.runtime.map import Params
from claude_executor.sdk.outcome import FailedAttempt, Reply
from claude_executor.sdk.retries import without_retries
from claude_executor.sdk.usage import usage_from_sdk

T = TypeVar("T")

CostHint: TypeAlias = Estimate | Params | Callable[..., "Estimate | Params"]
"""What one call will probably take: an estimate, the request it will make, or a function of its arguments."""

_REQUEST = frozenset({"model", "max_tokens", "messages"})


def shape_for(
    cost: CostHint | None,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> RequestShape:
    """What is known of a call before it is made.

    Raises:
        ValueError: Nothing is: neither was it told nor are the arguments those of a request.
    """
    if callable(cost):
        cost = cost(*args, **kwargs)
    if isinstance(cost, Estimate):
        told = min(cost.output_tokens, float(cost.max_tokens))
        return RequestShape(cost.model, cost.max_tokens, 0, round(cost.input_tokens), expected_output=told)
    if cost is not None:
        return shape_of(cost)
    params = _request_in(args, kwargs)
    if params is not None:
        return shape_of(params)
    raise ValueError(
        "it cannot be told what this call will take: give it as cost=, for example "
        "cost=Estimate.about('claude-haiku-5-5', input_tokens=2000, output_tokens=300)"
    )


def as_attempt(fn: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[Reply[T] | FailedAttempt]]:
    """A call of `fn`, to be made as often as the policy says.

    What the SDK raises of a request that asked a model is a failed attempt; everything else passes through,
    for it is the function's own: a file that is missing, a website that cannot be reached. Where `fn` is a
    `partial`, the request among its arguments is left out of what the API says of it; and where it is one of
    a method of the SDK, the client it belongs to does not retry.
    """
    known = _request_of(fn)
    fn = without_retries(fn)

    async def attempt() -> Reply[T] | FailedAttempt:
        from claude_executor.sdk.failures import failure_from, from_a_model

        try:
            value = await fn()
        except Exception as error:
            told = from_a_model(error)
            if told is None:
                raise
            return failure_from(told, known)
        return Reply(value, usage_in(value), lambda: NO_HINTS)

    return attempt


def usage_in(value: object) -> Usage | None:
    """What an answer took, if it is one of the SDK's messages, or has a `usage` like one."""
    usage = getattr(value, "usage", None)
    counts = (getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None))
    if usage is None or not all(isinstance(count, int) for count in counts):
        return None
    return usage_from_sdk(usage)


def _request_of(fn: object) -> "Params | None":
    if not isinstance(fn, partial):
        return None
    bound = cast("partial[object]", fn)
    return _request_in(bound.args, bound.keywords)


def _request_in(args: tuple[object, ...], kwargs: Mapping[str, object]) -> "Params | None":
    for params in (kwargs, *args):
        if isinstance(params, Mapping) and params.keys() >= _REQUEST:
            return cast("Params", params)
    return None
