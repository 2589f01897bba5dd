"""Switches the SDK's own retries off, where a call of one of its methods can be recognized."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

T = TypeVar("T")


def without_retries(fn: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Return `fn` without the SDK's own retries if it is a `partial` of a method of an SDK client.

    Any other function is returned as it is.
    """
    if not isinstance(fn, partial):
        return fn
    bound = cast("partial[Awaitable[T]]", fn)
    resource = cast("Any", getattr(bound.func, "__self__", None))
    client = cast("Any", getattr(resource, "_client", None))
    if resource is None or not getattr(client, "max_retries", 0):
        return bound
    from anthropic._resource import AsyncAPIResource  # in public there are only its subclasses

    if not isinstance(resource, AsyncAPIResource):
        return bound
    own = type(resource)(client.with_options(max_retries=0))
    method = cast("Callable[..., Awaitable[T]]", getattr(own, bound.func.__name__))
    return partial(method, *bound.args, **bound.keywords)
