"""claude-executor: push any number of Claude requests through one organisation's rate limits.

As fast as the limits allow and no faster, losing none and paying for none twice::

    async with Executor() as executor:
        message = await executor.submit({"model": …, "max_tokens": …, "messages": […]})
"""

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
    RequestEvent,
    RequestRefused,
    RunStopped,
)
from claude_executor.core.limits import Limits
from claude_executor.core.retry import Kind, RetryPolicy
from claude_executor.core.snapshot import PoolState, ResourceState, Snapshot
from claude_executor.errors import (
    Closed,
    DeadlineExceeded,
    ExecutorError,
    Failed,
    QueueFull,
    Rejected,
    Stopped,
    TooLarge,
)
from claude_executor.executor import Executor
from claude_executor.fan_out import Params, Result

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "BreakerChanged",
    "BreakerPolicy",
    "Closed",
    "DeadlineExceeded",
    "Event",
    "Executor",
    "ExecutorError",
    "Failed",
    "Kind",
    "LimitLearned",
    "Limits",
    "Params",
    "PoolClosed",
    "PoolState",
    "QueueFull",
    "Rejected",
    "RequestAnswered",
    "RequestEvent",
    "RequestRefused",
    "ResourceState",
    "Result",
    "RetryPolicy",
    "RunStopped",
    "Snapshot",
    "Stopped",
    "TooLarge",
    "Usage",
]
__version__ = "0.1.0"
