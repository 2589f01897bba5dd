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
    from claude_executor.core.control.breaker import BreakerPolicy
    from claude_executor.core.control.retry import RetryPolicy
    from claude_executor.core.control.spending import SpendingCap
    from claude_executor.core.model.actions import Refusal
    from claude_executor.core.model.cost import Resource, Usage
    from claude_executor.core.model.events import (
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
        RequestsStopped,
        RequestSubmitted,
        SharingChanged,
    )
    from claude_executor.core.model.failure import FailureKind, Scope
    from claude_executor.core.model.gate import BreakerState, HeldBy
    from claude_executor.core.model.limits import Limits, LimitSource
    from claude_executor.core.model.options import RequestOptions
    from claude_executor.core.model.sharing import (
        Lease,
        LeaseRequest,
        Membership,
        SharingState,
        WhenUnreachable,
    )
    from claude_executor.core.model.snapshot import PoolState, ResourceState, Snapshot
    from claude_executor.errors import (
        BudgetUnreachable,
        Closed,
        DeadlineExceeded,
        ExecutorError,
        Failed,
        QueueFull,
        Rejected,
        SpendingCapReached,
        Stopped,
        StreamInterrupted,
        TooLarge,
    )
    from claude_executor.executor import Executor
    from claude_executor.runtime.estimate import Estimate
    from claude_executor.runtime.map import MapJournal, Params, Result
    from claude_executor.runtime.session import Session

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "BreakerChanged",
    "BreakerPolicy",
    "BreakerState",
    "Budget",
    "BudgetUnreachable",
    "Closed",
    "DeadlineExceeded",
    "Estimate",
    "Event",
    "Executor",
    "ExecutorError",
    "Failed",
    "FailureKind",
    "HeldBy",
    "Lease",
    "LeaseRequest",
    "LimitLearned",
    "LimitSource",
    "Limits",
    "MapJournal",
    "Membership",
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
    "RequestOptions",
    "RequestRefused",
    "RequestSubmitted",
    "RequestsStopped",
    "Resource",
    "ResourceState",
    "Result",
    "RetryPolicy",
    "Scope",
    "Session",
    "SharingChanged",
    "SharingState",
    "Snapshot",
    "SpendingCap",
    "SpendingCapReached",
    "Stopped",
    "StreamInterrupted",
    "TooLarge",
    "Usage",
    "WhenUnreachable",
]
__version__ = "0.1.0"

# Names are imported when they are first used: `claude-executor --help` needs none of them.
_HOMES = {
    "AttemptFailed": "core.model.events",
    "AttemptStarted": "core.model.events",
    "BreakerChanged": "core.model.events",
    "BreakerPolicy": "core.control.breaker",
    "BreakerState": "core.model.gate",
    "Budget": "budget",
    "BudgetUnreachable": "errors",
    "Closed": "errors",
    "DeadlineExceeded": "errors",
    "Estimate": "runtime.estimate",
    "Event": "core.model.events",
    "Executor": "executor",
    "ExecutorError": "errors",
    "Failed": "errors",
    "FailureKind": "core.model.failure",
    "HeldBy": "core.model.gate",
    "Lease": "core.model.sharing",
    "LeaseRequest": "core.model.sharing",
    "LimitLearned": "core.model.events",
    "LimitSource": "core.model.limits",
    "Limits": "core.model.limits",
    "MapJournal": "runtime.map",
    "Membership": "core.model.sharing",
    "Params": "runtime.map",
    "PoolClosed": "core.model.events",
    "PoolState": "core.model.snapshot",
    "QueueFull": "errors",
    "RedisBudget": "budget.redis",
    "Refusal": "core.model.actions",
    "Rejected": "errors",
    "RequestAnswered": "core.model.events",
    "RequestCancelled": "core.model.events",
    "RequestEvent": "core.model.events",
    "RequestOptions": "core.model.options",
    "RequestRefused": "core.model.events",
    "RequestSubmitted": "core.model.events",
    "RequestsStopped": "core.model.events",
    "Resource": "core.model.cost",
    "ResourceState": "core.model.snapshot",
    "Result": "runtime.map",
    "RetryPolicy": "core.control.retry",
    "Scope": "core.model.failure",
    "Session": "runtime.session",
    "SharingChanged": "core.model.events",
    "SharingState": "core.model.sharing",
    "Snapshot": "core.model.snapshot",
    "SpendingCap": "core.control.spending",
    "SpendingCapReached": "errors",
    "Stopped": "errors",
    "StreamInterrupted": "errors",
    "TooLarge": "errors",
    "Usage": "core.model.cost",
    "WhenUnreachable": "core.model.sharing",
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
