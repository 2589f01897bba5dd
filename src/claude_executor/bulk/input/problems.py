"""What is wrong with an input: with one of its rows, with the whole, and the list of it for people."""

from dataclasses import dataclass
from pathlib import Path

MOST_PROBLEMS = 20
"""Different problems that are told; of the others only the number."""


class BadRow(ValueError):
    """A line is no row. The message says what is wrong with it, never what is in it."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with a line; lines count from 1, and 0 stands for the file as a whole.

    Attributes:
        line: Its number; of several the first.
        what: What is wrong with it.
        unit: What is counted: a ``"line"``, or a ``"row"`` where there are no lines.
        times: How many lines it is wrong with.
    """

    line: int
    what: str
    unit: str = "line"
    times: int = 1

    def __str__(self) -> str:
        if not self.line:
            return self.what
        others = f" and {self.times - 1:,} more" if self.times > 1 else ""
        return f"{self.unit} {self.line}{others}: {self.what}"


class BadInput(Exception):
    """A file cannot be sent as it is.

    Attributes:
        problems: The first of them, in order of the lines; those that are alike are one.
        count: How many there are altogether.
    """

    def __init__(self, name: str | Path, problems: list[RowProblem], count: int) -> None:
        lines = [f"{name}: {problem}" for problem in problems]
        untold = count - sum(problem.times for problem in problems)
        if untold > 0:
            lines.append(f"{name}: and {untold:,} more {'problem' if untold == 1 else 'problems'}")
        super().__init__("\n".join(lines))
        self.problems = problems
        self.count = count


class Problems:
    """The first problems by line, those that are alike together, and the number of all."""

    def __init__(self, unit: str) -> None:
        self.count = 0
        self._unit = unit
        self._told: dict[str, RowProblem] = {}

    def add(self, line: int, what: str) -> None:
        """Take note of one."""
        self.count += 1
        told = self._told
        before = told.get(what)
        first, times = (line, 1) if before is None else (min(before.line, line), before.times + 1)
        told[what] = RowProblem(first, what, self._unit, times)
        if len(told) > MOST_PROBLEMS:
            del told[max(told, key=lambda what: told[what].line)]

    def first(self) -> list[RowProblem]:
        """The first of them, in order."""
        return sorted(self._told.values(), key=lambda problem: problem.line)
