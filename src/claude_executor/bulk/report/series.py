"""Amounts and states over running time, in as many steps as a chart can show."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from claude_executor.bulk.report.lines import Floats

STEPS = 120
FEWEST_STEPS = 12
WINDOW = 60.0
"""Seconds over which a rate is averaged: limits are per minute."""
WINDOW_SHARE = 1 / 20
"""Largest fraction of a run that the window may cover: a short run would otherwise be one window."""
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Steps:
    """Running time in equal steps.

    Attributes:
        edges: Running time at which each step begins, and the end of the last.
    """

    edges: "Floats"

    @classmethod
    def of(cls, length: float, most: int = STEPS) -> "Steps":
        """Return the steps of a job whose running time is `length` seconds."""
        count = max(FEWEST_STEPS, min(most, math.floor(length)))
        return cls(np.linspace(0.0, max(length, 0.001), count + 1))

    @property
    def length(self) -> float:
        """Seconds that all steps cover."""
        return float(self.edges[-1])

    @property
    def width(self) -> float:
        """Seconds that one step covers."""
        return float(self.edges[1])

    @property
    def centres(self) -> "Floats":
        """Running time in the middle of each step."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def rate(self, seconds: "Floats", amounts: "Floats", *, gradual: bool = False) -> "Floats":
        """Return the amount per minute at each edge, averaged over the window before it.

        Args:
            seconds: Running time of each amount.
            amounts: The amounts.
            gradual: Whether each amount came about gradually since the one before, instead of at once.
        """
        at = np.interp if gradual else _at
        order = np.argsort(seconds, kind="stable")
        times = np.concatenate(([0.0], seconds[order]))
        so_far = np.concatenate(([0.0], np.cumsum(amounts[order])))
        window = max(self.width, min(WINDOW, WINDOW_SHARE * self.length))
        before = np.maximum(0.0, self.edges - window)
        gained = at(self.edges, times, so_far) - at(before, times, so_far)
        rate: Floats = 60.0 * gained / np.maximum(self.edges - before, self.width)
        return rate

    def counts(self, seconds: "Floats", amounts: "Floats | None" = None) -> "Floats":
        """Return how many values fall into each step, or the sum of their amounts."""
        return np.histogram(seconds, self.edges, weights=amounts)[0].astype(np.float64)

    def shares(self, seconds: "Floats", spans: "Floats") -> "Floats":
        """Return the fraction of each step that spans fill, each of which ends at its time in `seconds`."""
        order = np.argsort(seconds, kind="stable")
        so_far = np.interp(
            self.edges,
            np.concatenate(([0.0], seconds[order])),
            np.concatenate(([0.0], np.cumsum(spans[order]))),
        )
        return np.clip(np.diff(so_far) / self.width, 0.0, 1.0)

    def so_far(self, seconds: "Floats", amounts: "Floats") -> "Floats":
        """Return the sum of the amounts up to each edge."""
        order = np.argsort(seconds, kind="stable")
        sums = np.concatenate(([0.0], np.cumsum(amounts[order])))
        return sums[np.searchsorted(seconds[order], self.edges, side="right")]

    def sampled(self, seconds: "Floats", values: "Floats") -> "Floats":
        """Return a state at the center of each step."""
        known = ~np.isnan(values)
        if not known.any():
            return np.full(len(self.centres), math.nan)
        return np.interp(self.centres, seconds[known], values[known], left=math.nan)

    def percentiles(self, seconds: "Floats", values: "Floats") -> dict[int, "Floats"]:
        """Return `PERCENTILES` of the values that fall into each step; `nan` where none do."""
        known = ~np.isnan(values) & ~np.isnan(seconds)
        seconds, values = seconds[known], values[known]
        step = np.clip(np.searchsorted(self.edges, seconds, side="right") - 1, 0, len(self.edges) - 2)
        values = values[np.lexsort((values, step))]
        counts = np.bincount(step, minlength=len(self.edges) - 1)
        first = np.cumsum(counts) - counts
        found: dict[int, Floats] = {}
        for percent in PERCENTILES:
            rank = np.maximum(0, np.ceil(percent / 100 * counts).astype(np.int64) - 1)  # the nearest rank
            at = np.minimum(first + rank, max(0, len(values) - 1))
            picked = values[at] if len(values) else np.zeros(len(counts))
            found[percent] = np.where(counts > 0, picked, math.nan)
        return found


def _at(when: "Floats", times: "Floats", so_far: "Floats") -> "Floats":
    return so_far[np.searchsorted(times, when, side="right") - 1]
