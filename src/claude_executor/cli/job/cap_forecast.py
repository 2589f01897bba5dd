"""Whether the caps of a job will do for what is left of it, as far as that can be told beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from claude_executor.cli.terminal.format import amount, money, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_executor.bulk import Caps, CostRange, Plan, Spent


@dataclass(frozen=True, slots=True)
class CapForecast:
    """One cap, and what will be needed of it.

    Attributes:
        name: What it is called.
        most: How much it is.
        spent: What earlier starts have used of it.
        needs: What is needed; `None` if that is not known.
        words: How such amounts are told.
    """

    name: str
    most: float
    spent: float
    needs: CostRange | None
    words: Callable[[float], str]

    @property
    def left(self) -> float:
        """What there is to use."""
        return max(0.0, self.most - self.spent)

    @property
    def outlook(self) -> Literal["yes", "probably", "no", "unknown"]:
        """Whether that will do: for the most that may be needed, or for the best guess."""
        if self.needs is None:
            return "unknown"
        if self.needs.high <= self.left:
            return "yes"
        return "probably" if self.needs.guess <= self.left else "no"

    def sentence(self, rows: int) -> str:
        """The same for people, of so many rows."""
        text = self.words(self.most)
        if self.spent:
            text += f", {self.words(self.spent)} spent already"
        if self.needs is None:
            return f"{text}: it is not known whether that is enough"
        if not self.left:
            return f"{text}: used up, nothing will be sent"
        if self.outlook == "no":
            enough_for = int(rows * self.left / self.needs.guess)
            return f"{text}: not enough, it ends after about {enough_for:,} of {rows:,} rows"
        if self.outlook == "probably":
            return f"{text}: enough, unless answers are long"
        return f"{text}: enough"


def caps_of(caps: Caps, spent: Spent, planned: Plan) -> Iterator[CapForecast]:
    """Those that there are, for what is planned when so much is spent already."""
    if caps.dollars is not None:
        yield CapForecast("budget", caps.dollars, spent.dollars or 0.0, planned.dollars, money)
    if caps.tokens is not None:
        tokens = planned.input_tokens + planned.output_tokens
        yield CapForecast("max_tokens_total", caps.tokens, spent.tokens, tokens, amount)
    seconds = planned.seconds  # which it takes at least: that a deadline will do cannot be told
    if caps.seconds is not None and seconds is not None and seconds.guess > caps.seconds:
        yield CapForecast("deadline", caps.seconds, 0.0, seconds, span)
