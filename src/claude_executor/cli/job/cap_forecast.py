"""Predicts whether the remaining caps cover the remaining rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from claude_executor.cli.terminal.format import amount, money, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_executor.bulk import Caps, CostRange, Plan, Spent


@dataclass(frozen=True, slots=True)
class CapForecast:
    """One cap, and the forecast of what the rows need of it.

    Attributes:
        name: Name of the cap.
        most: Amount of the cap.
        spent: What earlier starts used of it.
        needs: Forecast of the need; `None` if not known.
        words: Formats such an amount.
    """

    name: str
    most: float
    spent: float
    needs: CostRange | None
    words: Callable[[float], str]

    @property
    def left(self) -> float:
        """Amount left of the cap."""
        return max(0.0, self.most - self.spent)

    @property
    def outlook(self) -> Literal["yes", "probably", "no", "unknown"]:
        """Outlook for the rows left: ``"yes"`` for the upper bound, ``"probably"`` for the best guess."""
        if self.needs is None:
            return "unknown"
        if self.needs.high <= self.left:
            return "yes"
        return "probably" if self.needs.guess <= self.left else "no"

    def sentence(self, rows: int) -> str:
        """Describe the outlook for a number of rows."""
        text = self.words(self.most)
        if self.spent:
            text += f", {self.words(self.spent)} spent already"
        if self.needs is None:
            return f"{text}: unknown whether that is enough"
        if not self.left:
            return f"{text}: used up, nothing will be sent"
        if self.outlook == "no":
            enough_for = int(rows * self.left / self.needs.guess)
            return f"{text}: not enough; the run will end after about {enough_for:,} of {rows:,} rows"
        if self.outlook == "probably":
            return f"{text}: enough, unless answers are long"
        return f"{text}: enough"


def caps_of(caps: Caps, spent: Spent, planned: Plan) -> Iterator[CapForecast]:
    """Return the forecasts of the caps that are set, given a plan and what is spent already."""
    if caps.dollars is not None:
        yield CapForecast("max_cost", caps.dollars, spent.dollars or 0.0, planned.dollars, money)
    if caps.tokens is not None:
        tokens = planned.input_tokens + planned.output_tokens
        yield CapForecast("max_tokens_total", caps.tokens, spent.tokens, tokens, amount)
    seconds = (
        planned.seconds
    )  # a minimum: it can show that a deadline is too short, never that it is long enough
    if caps.seconds is not None and seconds is not None and seconds.guess > caps.seconds:
        yield CapForecast("deadline", caps.seconds, 0.0, seconds, span)
