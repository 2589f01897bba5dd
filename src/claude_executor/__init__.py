"""claude-executor: push any number of Claude requests through one organisation's rate limits.

As fast as the limits allow and no faster, losing none and paying for none twice::

    async with Executor() as executor:
        message = await executor.submit({"model": …, "max_tokens": …, "messages": […]})
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_executor.budget import Budget
    from claude_executor.budget.redis import RedisBudget
    from claude_executor.core.breaker import BreakerPolicy
    from claude_executor.core.cost import Usage
    from claude_executor.core.events import (
        AttemptFailed,
        AttemptStarted,
        BreakerChanged,
        Event,
        LimitLearned,
        PoolClosed,
        RequestAnswered,
        RequestCancelled,
        RequestEvent,
        RequestRefused,
        RequestSubmitted,
        RunStopped,
        SharingChanged,
    )
    from claude_executor.core.job import Refusal
    from claude_executor.core.limits import Limits
    from claude_executor.core.retry import Kind, RetryPolicy
    from claude_executor.core.snapshot import PoolState, ResourceState, Snapshot
    from claude_executor.core.spending import SpendingCap
    from claude_executor.errors import (
        BudgetSpent,
        BudgetUnreachable,
        Closed,
        DeadlineExceeded,
        ExecutorError,
        Failed,
        QueueFull,
        Rejected,
        Stopped,
        StreamInterrupted,
        TooLarge,
    )
    from claude_executor.estimate import Estimate
    from claude_executor.executor import Executor
    from claude_executor.fan_out import MapJournal, Params, Result
    from claude_executor.session import Session
    from claude_executor.terms import Terms

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "BreakerChanged",
    "BreakerPolicy",
    "Budget",
    "BudgetSpent",
    "BudgetUnreachable",
    "Closed",
    "DeadlineExceeded",
    "Estimate",
    "Event",
    "Executor",
    "ExecutorError",
    "Failed",
    "Kind",
    "LimitLearned",
    "Limits",
    "MapJournal",
    "Params",
    "PoolClosed",
    "PoolState",
    "QueueFull",
    "RedisBudget",
    "Refusal",
    "Rejected",
    "RequestAnswered",
    "RequestCancelled",
    "RequestEvent",
    "RequestRefused",
    "RequestSubmitted",
    "ResourceState",
    "Result",
    "RetryPolicy",
    "RunStopped",
    "Session",
    "SharingChanged",
    "Snapshot",
    "SpendingCap",
    "Stopped",
    "StreamInterrupted",
    "Terms",
    "TooLarge",
    "Usage",
]
__version__ = "0.1.0"

# Names are imported when they are first used: `claude-executor --help` needs none of them.
_HOMES = {
    "AttemptFailed": "core.events",
    "AttemptStarted": "core.events",
    "BreakerChanged": "core.events",
    "BreakerPolicy": "core.breaker",
    "Budget": "budget",
    "BudgetSpent": "errors",
    "BudgetUnreachable": "errors",
    "Closed": "errors",
    "DeadlineExceeded": "errors",
    "Estimate": "estimate",
    "Event": "core.events",
    "Executor": "executor",
    "ExecutorError": "errors",
    "Failed": "errors",
    "Kind": "core.retry",
    "LimitLearned": "core.events",
    "Limits": "core.limits",
    "MapJournal": "fan_out",
    "Params": "fan_out",
    "PoolClosed": "core.events",
    "PoolState": "core.snapshot",
    "QueueFull": "errors",
    "RedisBudget": "budget.redis",
    "Refusal": "core.job",
    "Rejected": "errors",
    "RequestAnswered": "core.events",
    "RequestCancelled": "core.events",
    "RequestEvent": "core.events",
    "RequestRefused": "core.events",
    "RequestSubmitted": "core.events",
    "ResourceState": "core.snapshot",
    "Result": "fan_out",
    "RetryPolicy": "core.retry",
    "RunStopped": "core.events",
    "Session": "session",
    "SharingChanged": "core.events",
    "Snapshot": "core.snapshot",
    "SpendingCap": "core.spending",
    "Stopped": "errors",
    "StreamInterrupted": "errors",
    "Terms": "terms",
    "TooLarge": "errors",
    "Usage": "core.cost",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
