"""The options of an executor and of its requests by name, and how the doors put them together."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from claude_executor.core.model.options import DEFAULT_OPTIONS, RequestOptions

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from claude_executor.budget import Budget
    from claude_executor.core.control.breaker import BreakerPolicy
    from claude_executor.core.control.retry import RetryPolicy
    from claude_executor.core.control.spending import SpendingCap
    from claude_executor.core.model.events import Event

OptionsSource: TypeAlias = RequestOptions | Callable[[], RequestOptions]
"""The options of every request of a door, or a function that returns them at each request."""


class ExecutorOptions(TypedDict, total=False):
    """The keyword arguments of `Executor`, for functions that pass them on."""

    client: "AsyncAnthropic | None"
    api_key: str | None
    base_url: str | None
    max_concurrency: int
    max_queued: int | None
    retry: "RetryPolicy | None"
    breaker: "BreakerPolicy | None"
    timeout: float
    reserve_max_tokens: bool
    spending_caps: "Iterable[SpendingCap]"
    budget: "Budget | None"
    on_event: "Callable[[Event], None] | None"
    attempt_context: Callable[[int], AbstractContextManager[object]] | None
    clock: Callable[[], float]
    random: Callable[[], float]


class RequestKeywords(TypedDict, total=False):
    """The keyword arguments of a door that set the options of its requests, for functions that pass them on.

    Either `options` is given, or any of the others.
    """

    options: RequestOptions | None
    priority: int | None
    tenant: str | None
    deadline: float | None


def request_options(
    options: RequestOptions | None, priority: int | None, tenant: str | None, deadline: float | None
) -> RequestOptions:
    """Return the options that a door was given in one of two ways: as a whole, or by keywords.

    Raises:
        TypeError: They were given in both ways, or `options` is something else.
    """
    if options is not None:
        _require_no_keywords(priority, tenant, deadline)
        if not isinstance(options, RequestOptions):
            raise TypeError(f"options must be RequestOptions, got {type(options).__name__}")
        return options
    if priority is None and tenant is None and deadline is None:
        return DEFAULT_OPTIONS
    return RequestOptions(0 if priority is None else priority, "" if tenant is None else tenant, deadline)


def options_source(
    options: OptionsSource | None, priority: int | None, tenant: str | None, deadline: float | None
) -> OptionsSource:
    """Return the options of a door that takes a function in place of `options`, too.

    Raises:
        TypeError: As for `request_options`.
    """
    if options is None or isinstance(options, RequestOptions) or not callable(options):
        return request_options(options, priority, tenant, deadline)
    _require_no_keywords(priority, tenant, deadline)
    return options


def _require_no_keywords(priority: int | None, tenant: str | None, deadline: float | None) -> None:
    keywords = {"priority": priority, "tenant": tenant, "deadline": deadline}
    given = ", ".join(f"{name}=" for name, value in keywords.items() if value is not None)
    if given:
        raise TypeError(f"give either options= or {given}, not both: put all of them into RequestOptions(…)")
