"""Refusing at once what would only fail again: bad keys, spent budgets, models that do not exist.

After such an answer everything in its scope is turned away for a while without being sent, with that answer
as the reason. Then a request is let through again to see: a service may outlive a spend limit.
"""

from claude_executor.core.job import Failure
from claude_executor.core.retry import Scope

LASTS = 60.0
"""Seconds a stop lasts."""


class Stops:
    """What is stopped, and until when."""

    __slots__ = ("_by_model",)

    def __init__(self) -> None:
        self._by_model: dict[str | None, tuple[float, Failure]] = {}  # None: every model

    def add(self, model: str, failure: Failure, scope: Scope, now: float) -> float:
        """Stop whatever `scope` says; until when."""
        until = now + LASTS
        self._by_model[None if scope is Scope.EVERYTHING else model] = (until, failure)
        return until

    def reason(self, model: str, now: float) -> Failure | None:
        """Why requests for a model are not sent, if they are not."""
        if not self._by_model:
            return None
        for key in (None, model):
            until, failure = self._by_model.get(key, (now, None))
            if until > now:
                return failure
            self._by_model.pop(key, None)
        return None
