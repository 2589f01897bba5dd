"""The ramp limit: how many more input tokens one minute may use than the last.

The API's threshold is unpublished. Messages seen in the field quote a current cap and the next one "at the
next minute boundary" (25,000 then 95,000; 58,276 then 68,276), and this rule reproduces them. The rest is a
guess: an unused cap shrinks to the tokens used plus one step, never below the floor, and the first request of
a minute always passes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ramp:
    """The rule of the ramp limit.

    Attributes:
        floor: Input tokens that every minute may use.
        step: Input tokens by which the cap grows from one minute to the next.
    """

    floor: int = 25_000
    step: int = 70_000


@dataclass(frozen=True, slots=True)
class RampExceeded:
    """The reason why the ramp limit rejects a request.

    Attributes:
        current: The cap of this minute, in input tokens.
        following: The cap of the next minute.
        wait: Seconds until the next minute begins.
    """

    current: int
    following: int
    wait: float


class RampState:
    """The cap and the use of one pool, minute by minute."""

    __slots__ = ("_cap", "_exceeded", "_minute", "_used")

    def __init__(self) -> None:
        self._minute = -1
        self._cap = 0
        self._used = 0.0
        self._exceeded = False

    def check(self, tokens: float, ramp: Ramp, wall: float) -> RampExceeded | None:
        """Check whether the current minute has room for ``tokens``, without counting them.

        Args:
            tokens: The input tokens of the request.
            ramp: The rule.
            wall: The Unix time; caps change at whole minutes.

        Returns:
            ``None`` if there is room.
        """
        self._roll(ramp, int(wall // 60))
        if self._used and self._used + tokens > self._cap:
            self._exceeded = True
            return RampExceeded(self._cap, self._cap + ramp.step, 60 - wall % 60)
        return None

    def use(self, tokens: float) -> None:
        """Count admitted ``tokens``; a negative number returns them."""
        self._used = max(0.0, self._used + tokens)

    def _roll(self, ramp: Ramp, minute: int) -> None:
        if minute == self._minute:
            self._cap = max(self._cap, ramp.floor)
            return
        if minute != self._minute + 1:
            self._cap = ramp.floor
        elif self._exceeded:
            self._cap += ramp.step
        else:
            self._cap = max(ramp.floor, int(self._used) + ramp.step if self._used else 0)
        self._minute = minute
        self._used = 0.0
        self._exceeded = False
