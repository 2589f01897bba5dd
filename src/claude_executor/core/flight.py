"""What the requests in flight have reserved, as sums."""

from claude_executor.core.cost import NOTHING, Cost


class Flight:
    """Sums over the requests in flight.

    Attributes:
        count: How many there are.
        reserved: Their estimated costs together, in the order of a `Cost`. Guesses err independently of each
            other, so their variances add up too.
    """

    __slots__ = ("count", "reserved")

    def __init__(self) -> None:
        self.count = 0
        self.reserved = list(NOTHING)  # changed with every request, so no tuple

    def begin(self, cost: Cost) -> None:
        """A request of this cost starts."""
        self.count += 1
        reserved = self.reserved
        for i, more in enumerate(cost):
            reserved[i] += more

    def end(self, cost: Cost) -> None:
        """A request of this cost is over."""
        self.count -= 1
        reserved = self.reserved
        for i, gone in enumerate(cost):
            # Sums of floats drift: nothing becomes negative, and with nothing in flight nothing is left.
            reserved[i] = max(0.0, reserved[i] - gone) if self.count else 0.0
