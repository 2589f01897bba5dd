"""The account of one resource that a member has with its group, in the place of a bucket.

An account is not a bucket. It *has* a belief, a `TokenBucket`: the level of the server's bucket, as the group
last reported it and as requests and headers of this member have changed it since. What the member may spend
is something else: `granted`, the amount that the group has leased to it. While the group cannot be asked, a
`fallback` bucket that refills at this member's share stands in for the group.
"""

import math

from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.group.demand import Target
from claude_executor.core.model.sharing import Amounts, ResourceLease, ResourceLine

FALLBACK_BURST = 1.0
"""Seconds of its share of the refill that a member on its own may use at once."""


class LeasedBucket:
    """One resource of a pool, as one member of a group sees it. Satisfies `Bucket`.

    Attributes:
        rate: The amount per second that the whole group may use.
        capacity: The largest level, for the whole group.
        granted: The amount that has been granted and not been spent.
        owed: The amount to return with the next request: settling left it over, or, if negative, took it.
        correction: By how much headers have corrected the level since the last request.
        ceiling: The most that the level can be, from a refusal; infinite if there was none.
        known: Whether the group has reported a level.
        fallback: The bucket that stands in for the group while it cannot be asked; None while it can.
    """

    __slots__ = (
        "_belief",
        "_share",
        "capacity",
        "ceiling",
        "correction",
        "fallback",
        "granted",
        "known",
        "owed",
        "rate",
    )

    def __init__(self, rate: float, capacity: float, *, now: float) -> None:
        """Open an account that nothing has been granted to. The group's bucket is believed to be full."""
        self._belief = TokenBucket(rate, capacity, now=now)
        self.rate = rate
        self.capacity = capacity
        self.granted = 0.0
        self.owed = 0.0
        self.correction = 0.0
        self.ceiling = math.inf
        self.known = False
        self.fallback: TokenBucket | None = None
        self._share = 1.0

    def __repr__(self) -> str:
        where = "alone" if self.fallback is not None else f"{self.granted:.6g} granted"
        return f"<LeasedBucket {where}, {self._belief!r}>"

    # ---- as a bucket of the pool

    def level(self, now: float) -> float:
        """Return the believed level of the server's bucket, `granted` included."""
        return self._belief.level(now)

    def ready_at(self, amount: float, floor: float = 0.0) -> float:
        """Return minus infinity if `amount` has been granted; infinity if it takes another lease.

        The group keeps the `floor`, once for all members, so it does not count here.
        """
        del floor
        if self.fallback is not None:
            return self.fallback.ready_at(amount)
        return -math.inf if amount <= self.granted + 1e-9 else math.inf

    def take(self, amount: float, now: float, *, idle: float = 0.0) -> float:
        """Spend `amount`, and return the level that is believed to be left."""
        left = self._belief.take(amount, now, idle=idle)
        if self.fallback is not None:
            self.fallback.take(amount, now, idle=idle)
        else:
            self.granted = max(0.0, self.granted - amount)
        return left

    def settle(self, surplus: float, now: float) -> None:
        """Return `surplus` to the group with the next request, or take more if it is negative."""
        self._belief.settle(surplus, now)
        if self.fallback is not None:
            self.fallback.settle(surplus, now)
        else:
            self.owed += surplus

    def correct(self, level: float, now: float) -> None:
        """Believe the `level` that headers report; zero or less after a refusal."""
        if self.fallback is not None:  # what the others use is unknown: only a refusal says anything
            if level <= 0.0:
                self.fallback.correct(min(0.0, self.fallback.level(now)), now)
            return
        change = level - self._belief.level(now)
        self._belief.correct(level, now)
        if level <= 0.0:
            self.ceiling = min(self.ceiling, level)
            self.granted = 0.0
        elif self.known:
            self.correction += change

    def reconfigure(self, rate: float, capacity: float, now: float) -> None:
        """Change the rate and the capacity of the whole group."""
        self._belief.reconfigure(rate, capacity, now)
        self.rate, self.capacity = rate, capacity
        if self.fallback is not None:
            alone = rate * self._share
            self.fallback.reconfigure(alone, _fallback_capacity(alone), now)

    # ---- as an account with the group

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
        """Balance the account against what it should hold, and return what the group is to know of it.

        Args:
            target: The amounts that the account should hold. What exceeds them by more than they come to goes
                back to the group; less is not worth returning and asking for again.
            now: The current instant.
            in_flight: The amount that requests in flight have reserved, for the line.
            variance: The variance of that amount, for the line.
            limits: The member's knowledge of the limit, for the line.
            declared: The limits that the user has declared, for the line.
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
        """Add what the group has granted, and believe what it reports of the level."""
        self.granted += line.granted
        if line.level is not None:
            self.on_level(line.level + line.leased + self.granted, now)

    def on_level(self, level: float, now: float) -> None:
        """Believe the group's `level`, which includes everything granted and not spent."""
        self.known = True
        self._belief.correct(level, now)

    def detach(self, share: float, now: float) -> None:
        """Continue without the group: use this `share` of the refill, and nothing saved up."""
        self._share = share
        rate = self.rate * share
        level = min(self.granted, rate * FALLBACK_BURST)
        self.fallback = TokenBucket(rate, _fallback_capacity(rate), now=now, level=level)
        self.granted = self.owed = self.correction = 0.0
        self.ceiling = math.inf

    def reattach(self, now: float) -> None:
        """Return to the group. What was spent meanwhile counts as its refill, so nothing is left of it."""
        if self.fallback is not None:
            self.fallback = None
            self._belief.correct(min(0.0, self._belief.level(now)), now)


def _fallback_capacity(rate: float) -> float:
    """One whole request must fit, whatever the share."""
    return max(1.0, rate * FALLBACK_BURST)
