"""What the requests in flight have reserved, as sums.

Output tokens are reserved whole when a request starts, but the server draws them as they are produced. How
much of them is still to be drawn lies between our level and the one the server announces. Every answer is
taken to be produced evenly over `lasts` seconds; then two sums are enough, of the amounts and of amount times
start. An answer that takes longer counts as drawing on.
"""

from claude_executor.core.cost import NOTHING, Cost


class Flight:
    """Sums over the requests in flight.

    Attributes:
        count: How many there are.
        reserved: Their estimated costs together.
        lasts: Seconds over which an answer is produced.
    """

    __slots__ = ("_output_times_start", "count", "lasts", "reserved")

    def __init__(self) -> None:
        self.count = 0
        self.reserved = NOTHING
        self.lasts = 0.0
        self._output_times_start = 0.0

    def begin(self, cost: Cost, now: float) -> None:
        """A request of this cost starts."""
        self.count += 1
        self.reserved = self.reserved.plus(cost)
        self._output_times_start += cost.output_tokens * now

    def end(self, cost: Cost, started_at: float) -> None:
        """A request of this cost, started then, is over."""
        self.count -= 1
        self.reserved = self.reserved.minus(cost) if self.count else NOTHING
        self._output_times_start -= cost.output_tokens * started_at
        if not self.count:
            self._output_times_start = 0.0  # what is left is rounding

    def undrawn(self, now: float) -> float:
        """Output tokens that are still to be produced."""
        amount = self.reserved.output_tokens
        if self.lasts <= 0.0:
            return amount
        drawn = (now * amount - self._output_times_start) / self.lasts
        return max(0.0, amount - drawn)
