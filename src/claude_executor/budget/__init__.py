"""A budget: the allowance that several executors share, as one of them sees it.

`RedisBudget` is the one that comes with this package. To keep the allowance elsewhere, give
`Executor(budget=…)` an object with the members of `Budget`. It exchanges plain, frozen values with the
executor. Their documentation says what every field means, and what a budget does with it:

* `Membership`, with `WhenUnreachable`: the terms on which the executor takes part;
* `LeaseRequest`, with `ResourceLine` and `PoolUpdates`: the executor's report and request;
* `Lease`, with `ResourceLease`: the budget's grant, and the reports of other members;
* `Closure`, `Outage` and `RampAllowance`: facts about a pool that members report to each other.

The least that a budget has to do: keep one level for each resource of each pool, subtract what it grants,
add what is `returned`, refill at `rate` up to `cap`, and never grant part of a `head`.
"""

from typing import Protocol

from claude_executor.core.model.sharing import (
    Closure,
    Lease,
    LeaseRequest,
    Membership,
    Outage,
    PoolUpdates,
    RampAllowance,
    ResourceLease,
    ResourceLine,
    WhenUnreachable,
)

__all__ = [
    "Budget",
    "Closure",
    "Lease",
    "LeaseRequest",
    "Membership",
    "Outage",
    "PoolUpdates",
    "RampAllowance",
    "ResourceLease",
    "ResourceLine",
    "Unreachable",
    "WhenUnreachable",
]


class Unreachable(ConnectionError):
    """The budget did not answer, or not in time. Its text is shown to users and must hold no secret."""


class Budget(Protocol):
    """The place in which a group keeps its limits.

    One object serves one executor. Its methods are called on the executor's event loop. The executor asks a
    few times a second for each pool, never twice at once for the same pool, and waits for no answer before it
    serves other pools.
    """

    @property
    def membership(self) -> Membership:
        """The terms on which the executor takes part; read once, before `open`."""
        ...

    async def open(self) -> None:
        """Prepare for the first call of `lease`. An exception keeps the executor from opening.

        It need not connect: a budget that cannot be reached is a matter of `lease`.
        """
        ...

    async def lease(self, pool: str, request: LeaseRequest) -> Lease:
        """Apply a member's report, and grant as much of its request as the levels allow.

        Args:
            pool: The name of the pool. Pools are independent of each other.
            request: The report and the request.

        Raises:
            Unreachable: There was no answer. The member continues as its `WhenUnreachable` says, and asks
                again after a second or so with the next `seq`. Any other exception counts as this one.
        """
        ...

    async def close(self) -> None:
        """Release what `open` has acquired. The member has sent its last request, with `leaving`, before."""
        ...
