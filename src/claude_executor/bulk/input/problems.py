"""Problems of an input: of single rows, of the whole file, and their list in an error message."""

from dataclasses import dataclass
from pathlib import Path

MOST_PROBLEMS = 20
"""Maximum number of different problems listed; the rest is only counted."""


class BadRow(ValueError):
    """A record is not a row. The message says what is wrong, and never quotes the content."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A problem of one or more rows.

    Attributes:
        line: Number of the first line with the problem, from 1; 0 stands for the whole file.
        what: Description of the problem.
        unit: What is numbered: a ``"line"``, or a ``"row"`` of Parquet.
        times: Number of lines with the problem.
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
    """An input that is not valid. Nothing was sent.

    Attributes:
        problems: The first problems in order of the lines; equal ones are listed once.
        count: Number of all problems.
    """

    def __init__(self, name: str | Path, problems: list[RowProblem], count: int) -> None:
        lines = [f"{name}: {problem}" for problem in problems]
        unlisted = count - sum(problem.times for problem in problems)
        if unlisted > 0:
            lines.append(f"{name}: and {unlisted:,} more {'problem' if unlisted == 1 else 'problems'}")
        super().__init__("\n".join(lines))
        self.problems = problems
        self.count = count


class Problems:
    """Collects the first problems by line, equal ones together, and counts all."""

    def __init__(self, unit: str) -> None:
        self.count = 0
        self._unit = unit
        self._first: dict[str, RowProblem] = {}

    def add(self, line: int, what: str) -> None:
        """Add a problem."""
        self.count += 1
        first_ones = self._first
        before = first_ones.get(what)
        first, times = (line, 1) if before is None else (min(before.line, line), before.times + 1)
        first_ones[what] = RowProblem(first, what, self._unit, times)
        if len(first_ones) > MOST_PROBLEMS:
            del first_ones[max(first_ones, key=lambda what: first_ones[what].line)]

    def first(self) -> list[RowProblem]:
        """Return the first problems, in order of the lines."""
        return sorted(self._first.values(), key=lambda problem: problem.line)
