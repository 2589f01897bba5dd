"""Demand: the amounts that a member should hold for its queue and for what starts before the next lease.

A member does not ask its group for each request. It asks ahead, for the requests that wait and for those it
expects within `AHEAD` seconds, but never for more than `MOST` seconds of the whole group's limits: what one
member holds, the others cannot use.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from claude_executor.core.control.limit_estimator import LimitEstimator
from claude_executor.core.model.cost import Cost
from claude_executor.core.model.sharing import Amounts

AHEAD = 0.25
"""Seconds of requests that a lease covers."""
MOST = 0.5
"""Seconds of the whole group's limits that a member holds at most."""
SHORTEST, LONGEST = 0.02, 2.0
"""Bounds, in seconds, of the span over which the rate of starts is measured."""
FLOW_MEMORY = 1.0
"""Seconds over which the rate of starts is averaged."""
MEMORY = 0.02
"""Weight of the newest request in the average cost."""


class Target(NamedTuple):
    """The amount of one resource that a member should hold.

    Attributes:
        head: The part that the first request in the queue takes; 0 if none waits.
        total: The whole, `head` included.
    """

    head: float
    total: float


NO_TARGET = Target(0.0, 0.0)


def demand(
    head: Amounts, mean: Amounts, rates: Amounts, *, startable: float, per_second: float
) -> dict[str, Target]:
    """Return the target of every resource that has a rate.

    Args:
        head: The cost of the first request in the queue; empty if none waits.
        mean: The mean cost of recent requests; empty before the first.
        rates: The amounts of every limited resource that the whole group may use per second.
        startable: The number of waiting requests that could start if the budget allowed it.
        per_second: The rate at which requests have started lately.
    """
    ahead = per_second * AHEAD
    expected = max(startable, ahead if ahead >= 1.0 else 0.0)
    longest = max((mean.get(name, 0.0) / rate for name, rate in rates.items()), default=0.0)
    if longest > 0.0:
        expected = min(expected, max(1.0, MOST / longest))
    targets: dict[str, Target] = {}
    for name in rates:
        first = head.get(name, 0.0)
        others = (expected - 1.0) * mean.get(name, first) if expected else 0.0
        targets[name] = Target(first, max(first, first + others))
    return targets


class RecentStarts:
    """Averages over the requests of one pool that this member has started.

    Attributes:
        per_second: The rate of starts.
        mean: The mean cost of a request, by resource.
    """

    __slots__ = ("_count", "mean", "per_second")

    def __init__(self) -> None:
        self.per_second = 0.0
        self.mean: dict[str, float] = {}
        self._count = 0

    def add(self, cost: Cost, limited: Iterable[tuple[LimitEstimator, object]]) -> None:
        """Count a request of this cost."""
        self._count += 1
        mean = self.mean
        for meter, _ in limited:
            amount = meter.amount(cost)
            mean[meter.name] = (1.0 - MEMORY) * mean.get(meter.name, amount) + MEMORY * amount

    def advance(self, since: float) -> None:
        """Update the rate; the last update was `since` seconds ago."""
        since = min(LONGEST, max(SHORTEST, since))
        weight = 1.0 - math.exp(-since / FLOW_MEMORY)
        self.per_second += weight * (self._count / since - self.per_second)
        self._count = 0
