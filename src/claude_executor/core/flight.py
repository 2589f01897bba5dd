"""What the requests in flight have reserved, as sums."""

from claude_executor.core.cost import NOTHING, Cost


class Flight:
    """Sums over the requests in flight.

    Attributes:
        count: How many there are.
        reserved: Their estimated costs together.
    """

    __slots__ = ("count", "reserved")

    def __init__(self) -> None:
        self.count = 0
        self.reserved = NOTHING

    def begin(self, cost: Cost) -> None:
        """A request of this cost starts."""
        self.count += 1
        self.reserved = self.reserved.plus(cost)

    def end(self, cost: Cost) -> None:
        """A request of this cost is over."""
        self.count -= 1
        self.reserved = self.reserved.minus(cost) if self.count else NOTHING  # what is left is rounding
