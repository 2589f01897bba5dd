"""The outcomes of an attempt, as the transport hands them to the executor."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import Failure
from claude_executor.core.model.headers import ResponseHints

T = TypeVar("T")


class Reply(NamedTuple, Generic[T]):
    """A complete response, its usage, and a way to read its headers."""

    value: T
    usage: Usage | None
    hints: Callable[[], ResponseHints]


class FailedAttempt(NamedTuple):
    """A failed attempt, and the exception that caused it, if any."""

    failure: Failure
    cause: Exception | None
