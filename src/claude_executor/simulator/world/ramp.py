"""The limit on growth: how many more input tokens one minute may use than the last.

The API's threshold is unpublished. Messages seen in the field quote a current cap and the next one "at the
next minute boundary" (25,000 then 95,000; 58,276 then 68,276), which is what this rule reproduces. The rest
is a guess: an unused cap shrinks to what was used plus one step, never below the floor, and the first request
of a minute always passes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ramp:
    """How fast a pool's use may grow.

    Attributes:
        floor: Input tokens that any minute may use.
        step: Input tokens by which the cap grows from one minute to the next.
    """

    floor: int = 25_000
    step: int = 70_000


@dataclass(frozen=True, slots=True)
class TooSteep:
    """A request came too early in the climb.

    Attributes:
        current: The cap of this minute, in input tokens.
        following: The cap of the next minute.
        wait: Seconds until the next minute begins.
    """

    current: int
    following: int
    wait: float


class Climb:
    """The growth of one pool, minute by minute."""

    __slots__ = ("_cap", "_minute", "_refused", "_used")

    def __init__(self) -> None:
        self._minute = -1
        self._cap = 0
        self._used = 0.0
        self._refused = False

    def check(self, tokens: float, ramp: Ramp, wall: float) -> TooSteep | None:
        """Ask for ``tokens`` more in the current minute; nothing is counted yet.

        Args:
            tokens: Input tokens wanted.
            ramp: The rule.
            wall: Unix time; caps step at its whole minutes.
        """
        self._roll(ramp, int(wall // 60))
        if self._used and self._used + tokens > self._cap:
            self._refused = True
            return TooSteep(self._cap, self._cap + ramp.step, 60 - wall % 60)
        return None

    def use(self, tokens: float) -> None:
        """Count ``tokens`` that were let through; a negative number gives back."""
        self._used = max(0.0, self._used + tokens)

    def _roll(self, ramp: Ramp, minute: int) -> None:
        if minute == self._minute:
            self._cap = max(self._cap, ramp.floor)
            return
        if minute != self._minute + 1:
            self._cap = ramp.floor
        elif self._refused:
            self._cap += ramp.step
        else:
            self._cap = max(ramp.floor, int(self._used) + ramp.step if self._used else 0)
        self._minute = minute
        self._used = 0.0
        self._refused = False
