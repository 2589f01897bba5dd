"""What came of one attempt, as the transport hands it to the executor."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from claude_executor.core.cost import Usage
from claude_executor.core.headers import Advice
from claude_executor.core.job import Failure

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """A complete answer, what it took, and what its headers say."""

    value: T
    usage: Usage | None
    advice: Advice


@dataclass(frozen=True, slots=True)
class Broken:
    """A failed attempt, and the exception that said so, if one did."""

    failure: Failure
    cause: Exception | None
