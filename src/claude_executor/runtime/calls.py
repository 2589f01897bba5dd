"""Makes attempts of coroutine functions that the executor did not write: their cost, usage and failures."""

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
"""The probable cost of one call: an estimate, the request it will make, or a function of its arguments."""


class UnknownCost(ValueError):
    """The size of a call is neither given nor visible in its arguments."""


_REQUEST = frozenset({"model", "max_tokens", "messages"})


def shape_for(
    cost: CostHint | None,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> RequestShape:
    """Return the shape of a call before it is made.

    Raises:
        UnknownCost: `cost` is None, and the arguments hold no request.
    """
    if callable(cost):
        cost = cost(*args, **kwargs)
    if isinstance(cost, Estimate):
        expected = min(cost.output_tokens, float(cost.max_tokens))
        return RequestShape(
            cost.model, cost.max_tokens, 0, round(cost.input_tokens), expected_output=expected
        )
    if cost is not None:
        return shape_of(cost)
    params = _request_in(args, kwargs)
    if params is not None:
        return shape_of(params)
    raise UnknownCost(
        "call() needs to know the call's size: "
        "executor.call(…, cost=Estimate.about('claude-haiku-5-5', input_tokens=…, output_tokens=…))"
    )


def as_attempt(fn: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[Reply[T] | FailedAttempt]]:
    """Return a function that makes one attempt by calling `fn`.

    An exception of the SDK about a request to a model is a failed attempt; any other exception passes
    through. If `fn` is a `partial`, the request among its arguments is redacted from the API's messages; if
    it is a `partial` of a method of an SDK client, that client does not retry.
    """
    known = _request_of(fn)
    fn = without_retries(fn)

    async def attempt() -> Reply[T] | FailedAttempt:
        from claude_executor.sdk.failures import failure_from, from_a_model

        try:
            value = await fn()
        except Exception as error:
            about_model = from_a_model(error)
            if about_model is None:
                raise
            return failure_from(about_model, known)
        return Reply(value, usage_in(value), lambda: NO_HINTS)

    return attempt


def usage_in(value: object) -> Usage | None:
    """Return the usage of a result that is a message of the SDK, or has a `usage` like one; else None."""
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
