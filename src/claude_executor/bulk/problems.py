"""What is wrong with an input: with one of its rows, with the whole, and the list of it for people."""

from dataclasses import dataclass
from heapq import heappush, heappushpop
from pathlib import Path

MOST_PROBLEMS = 20
"""Problems that are told one by one; of the others only the number."""


class BadRow(ValueError):
    """A line is no row. The message says what is wrong with it, never what is in it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one line; lines count from 1, and 0 stands for the file as a whole.

    Attributes:
        line: Its number.
        what: What is wrong with it.
        unit: What is counted: a ``"line"``, or a ``"row"`` where there are no lines.
    """

    line: int
    what: str
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.unit} {self.line}: {self.what}" if self.line else self.what


class BadInput(Exception):
    """A file cannot be sent as it is.

    Attributes:
        problems: The first of them, in order of the lines.
        count: How many there are altogether.
    """

    def __init__(self, name: str | Path, problems: list[Problem], count: int) -> None:
        lines = [f"{name}: {problem}" for problem in problems]
        if count > len(problems):
            lines.append(f"{name}: and {count - len(problems):,} more problems")
        super().__init__("\n".join(lines))
        self.problems = problems
        self.count = count


class Problems:
    """The first problems by line, and the number of all."""

    def __init__(self, unit: str) -> None:
        self.count = 0
        self._unit = unit
        self._first: list[tuple[int, str]] = []  # a heap with the last of them on top

    def add(self, line: int, what: str) -> None:
        """Take note of one."""
        self.count += 1
        if len(self._first) < MOST_PROBLEMS:
            heappush(self._first, (-line, what))
        else:
            heappushpop(self._first, (-line, what))

    def first(self) -> list[Problem]:
        """The first of them, in order."""
        return [Problem(-line, what, self._unit) for line, what in sorted(self._first, reverse=True)]
