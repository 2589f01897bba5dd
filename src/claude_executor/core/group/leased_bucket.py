"""A bucket that a group shares: what this member may spend of it, and what it believes of the whole.

What is inherited from `TokenBucket` is the belief: the level of the server's bucket, as the group last told
it and as our own requests and the headers have changed it since. What may be spent is another matter:
`stock`, which the group has granted. While the group cannot be asked, a bucket of our own (`alone`) stands
for it.
"""

import math

from claude_executor.core.control.bucket import TokenBucket

ALONE_BURST = 1.0
"""Seconds of its share of the refill that a member on its own may use at once."""


class Purse(TokenBucket):
    """One resource of a pool, as one member of a group sees it.

    Attributes:
        stock: What has been granted and not been spent.
        back: What is to be given back to the group: what settling left over, or took beyond.
        fix: By how much the headers have corrected the level since the group was asked.
        drain: What the level is at most, as a refusal told; infinite if none did.
        known: Whether the group knows this bucket.
        alone: What stands for the group while it cannot be asked.
        portion: The share of the refill that has then.
    """

    __slots__ = ("alone", "back", "drain", "fix", "known", "portion", "stock")

    def __init__(self, rate: float, capacity: float, *, now: float) -> None:
        super().__init__(rate, capacity, now=now)
        self.stock = 0.0
        self.back = 0.0
        self.fix = 0.0
        self.drain = math.inf
        self.known = False
        self.alone: TokenBucket | None = None
        self.portion = 1.0

    def ready_at(self, amount: float, floor: float = 0.0) -> float:
        """Whether it has been granted already; when it will be only the group can tell.

        The group keeps the `floor`, once for all its members.
        """
        del floor
        if self.alone is not None:
            return self.alone.ready_at(amount)
        return -math.inf if amount <= self.stock + 1e-9 else math.inf

    def take(self, amount: float, now: float, *, idle: float = 0.0) -> float:
        """Spend it."""
        left = super().take(amount, now, idle=idle)
        if self.alone is not None:
            self.alone.take(amount, now, idle=idle)
        else:
            self.stock = max(0.0, self.stock - amount)
        return left

    def settle(self, surplus: float, now: float) -> None:
        """It took less than estimated, or more: the group is told with the next request."""
        super().settle(surplus, now)
        if self.alone is not None:
            self.alone.settle(surplus, now)
        else:
            self.back += surplus

    def correct(self, level: float, now: float) -> None:
        """The headers tell the level, or a refusal tells that it is below zero."""
        if self.alone is not None:  # what the others draw is not known now: only a refusal tells anything
            if level <= 0.0:
                self.alone.correct(min(0.0, self.alone.level(now)), now)
            return
        change = level - self.level(now)
        super().correct(level, now)
        if level <= 0.0:
            self.drain = min(self.drain, level)
            self.stock = 0.0
        elif self.known:
            self.fix += change

    def heard(self, level: float, now: float) -> None:
        """The group tells what the level is."""
        self.known = True
        super().correct(level, now)

    def reconfigure(self, rate: float, capacity: float, now: float) -> None:
        """Change the rate and the capacity that the group shares."""
        super().reconfigure(rate, capacity, now)
        if self.alone is not None:
            alone = rate * self.portion
            self.alone.reconfigure(alone, _alone_holds(alone), now)

    def go_alone(self, portion: float, now: float) -> None:
        """The group cannot be asked: from now on use a `portion` of the refill, and nothing saved up."""
        self.portion = portion
        rate = self.rate * portion
        level = min(self.stock, rate * ALONE_BURST)
        self.alone = TokenBucket(rate, _alone_holds(rate), now=now, level=level)
        self.stock = self.back = self.fix = 0.0
        self.drain = math.inf

    def rejoin(self, now: float) -> None:
        """The group can be asked again. What was spent meanwhile has come out of its refill."""
        if self.alone is not None:
            self.alone = None
            super().correct(min(0.0, self.level(now)), now)


def _alone_holds(rate: float) -> float:
    """One whole request must fit, whatever the share."""
    return max(1.0, rate * ALONE_BURST)
