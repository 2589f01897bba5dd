"""Disputed draw: lowerings of a level that look foreign until answers explain them as our own.

Answers longer than estimated draw on the server's bucket before they arrive and report it. Meanwhile it looks
as if other users of the organization had spent. So each lowering stays *disputed* for a while. When
answers turn out to have taken more than their estimates in total, the lowering is attributed to them instead
of being charged twice.
"""

import math

DISPUTE_MEMORY = 60.0
"""Seconds in which a disputed lowering fades to 1/e. What has faded was foreign for good."""


class DisputedDraw:
    """Disputed lowerings of one bucket, as amounts of its resource."""

    __slots__ = ("_attributed", "_excess", "_unexplained")

    def __init__(self) -> None:
        self._unexplained = 0.0  # lowering that no answer has explained yet
        self._attributed = 0.0  # lowering that answers have explained: it was ours
        self._excess = 0.0  # what all answers together took beyond their estimates

    def __repr__(self) -> str:
        return f"<DisputedDraw {self._unexplained:g} unexplained, {self._attributed:g} attributed>"

    def on_shift(self, by: float) -> None:
        """Dispute a lowering of the level (a negative amount), or withdraw it by a raise."""
        self._unexplained = max(0.0, self._unexplained - by)

    def attribute(self, surplus: float) -> float:
        """Return how much of the lowering an answer explains that took `surplus` less than its estimate.

        The level was lowered by this amount already, so the answer must not lower it again. The amount is
        negative where answers that took less take an explanation back.
        """
        if not (self._unexplained or self._attributed):
            return 0.0
        before = max(0.0, self._excess)
        self._excess -= surplus
        ours = min(max(0.0, self._excess) - before, self._unexplained)
        ours = max(ours, -self._attributed)
        self._unexplained -= ours
        self._attributed += ours
        return ours

    def fade(self, elapsed: float) -> None:
        """Forget in time: what no answer explains was foreign."""
        if self._unexplained or self._attributed:
            keep = math.exp(-elapsed / DISPUTE_MEMORY)
            self._excess *= keep
            self._attributed *= keep
            self._unexplained *= keep
