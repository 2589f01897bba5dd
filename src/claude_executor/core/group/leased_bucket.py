"""A bucket that a group shares: what this member may spend of it, and what it believes of the whole.

What is inherited from `TokenBucket` is the belief: the level of the server's bucket, as the group last told
it and as our own requests and the headers have changed it since. What may be spent is another matter:
`stock`, which the group has granted. While the group cannot be asked, a bucket of our own (`alone`) stands
for it.
"""

import math

from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.group.demand import Target
from claude_executor.core.model.sharing import Amounts, ResourceLease, ResourceLine

FALLBACK_BURST = 1.0
"""Seconds of its share of the refill that a member on its own may use at once."""


class LeasedBucket(TokenBucket):
    """One resource of a pool, as one member of a group sees it.

    Attributes:
        granted: What has been granted and not been spent.
        owed: What is to be given back to the group: what settling left over, or took beyond.
        correction: By how much the headers have corrected the level since the group was asked.
        ceiling: What the level is at most, as a refusal told; infinite if none did.
        known: Whether the group knows this bucket.
        fallback: What stands for the group while it cannot be asked.
        share: The share of the refill that has then.
    """

    __slots__ = ("ceiling", "correction", "fallback", "granted", "known", "owed", "share")

    def __init__(self, rate: float, capacity: float, *, now: float) -> None:
        super().__init__(rate, capacity, now=now)
        self.granted = 0.0
        self.owed = 0.0
        self.correction = 0.0
        self.ceiling = math.inf
        self.known = False
        self.fallback: TokenBucket | None = None
        self.share = 1.0

    def ready_at(self, amount: float, floor: float = 0.0) -> float:
        """Whether it has been granted already; when it will be only the group can tell.

        The group keeps the `floor`, once for all its members.
        """
        del floor
        if self.fallback is not None:
            return self.fallback.ready_at(amount)
        return -math.inf if amount <= self.granted + 1e-9 else math.inf

    def take(self, amount: float, now: float, *, idle: float = 0.0) -> float:
        """Spend it."""
        left = super().take(amount, now, idle=idle)
        if self.fallback is not None:
            self.fallback.take(amount, now, idle=idle)
        else:
            self.granted = max(0.0, self.granted - amount)
        return left

    def settle(self, surplus: float, now: float) -> None:
        """It took less than estimated, or more: the group is told with the next request."""
        super().settle(surplus, now)
        if self.fallback is not None:
            self.fallback.settle(surplus, now)
        else:
            self.owed += surplus

    def correct(self, level: float, now: float) -> None:
        """The headers tell the level, or a refusal tells that it is below zero."""
        if self.fallback is not None:  # what the others draw is not known now: only a refusal tells anything
            if level <= 0.0:
                self.fallback.correct(min(0.0, self.fallback.level(now)), now)
            return
        change = level - self.level(now)
        super().correct(level, now)
        if level <= 0.0:
            self.ceiling = min(self.ceiling, level)
            self.granted = 0.0
        elif self.known:
            self.correction += change

    def request(
        self,
        target: Target,
        now: float,
        *,
        in_flight: float,
        variance: float,
        limits: Amounts,
        declared: Amounts,
    ) -> ResourceLine:
        """Balance this account against what it should hold, and return what the group is to know of it.

        The group gets what exceeds the target by more than the target itself: giving back and asking again
        costs more than a little too much. The other arguments go into the line as they are.
        """
        surplus = self.granted - target.total
        if surplus > 0.0 and (target.total == 0.0 or surplus > target.total):
            self.granted -= surplus
            self.owed += surplus
        wanted = max(0.0, target.total - self.granted)
        returned, correction, ceiling = self.owed, self.correction, self.ceiling
        self.owed = self.correction = 0.0
        self.ceiling = math.inf
        # While alone nobody knows what the others use, so the level counts as used up.
        level = max(0.0, self.level(now) - self.granted) if self.fallback is None else 0.0
        return ResourceLine(
            wanted=wanted,
            head=max(0.0, target.head - self.granted) if wanted else 0.0,
            returned=returned,
            leased=self.granted,
            in_flight=in_flight,
            variance=variance,
            level=level,
            correction=correction,
            ceiling=None if ceiling == math.inf else ceiling,
            limits=limits,
            declared=declared,
        )

    def on_lease(self, line: ResourceLease, now: float) -> None:
        """Add what the group has granted, and believe what it says of the level."""
        self.granted += line.granted
        if line.level is not None:
            self.on_level(line.level + line.leased + self.granted, now)

    def on_level(self, level: float, now: float) -> None:
        """Believe the group's `level`, which includes everything granted and not spent."""
        self.known = True
        super().correct(level, now)

    def reconfigure(self, rate: float, capacity: float, now: float) -> None:
        """Change the rate and the capacity that the group shares."""
        super().reconfigure(rate, capacity, now)
        if self.fallback is not None:
            alone = rate * self.share
            self.fallback.reconfigure(alone, _fallback_capacity(alone), now)

    def detach(self, portion: float, now: float) -> None:
        """The group cannot be asked: from now on use a `portion` of the refill, and nothing saved up."""
        self.share = portion
        rate = self.rate * portion
        level = min(self.granted, rate * FALLBACK_BURST)
        self.fallback = TokenBucket(rate, _fallback_capacity(rate), now=now, level=level)
        self.granted = self.owed = self.correction = 0.0
        self.ceiling = math.inf

    def reattach(self, now: float) -> None:
        """The group can be asked again. What was spent meanwhile has come out of its refill."""
        if self.fallback is not None:
            self.fallback = None
            super().correct(min(0.0, self.level(now)), now)


def _fallback_capacity(rate: float) -> float:
    """One whole request must fit, whatever the share."""
    return max(1.0, rate * FALLBACK_BURST)
