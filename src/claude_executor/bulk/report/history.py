"""Reads the timeline of a results file, and separates running time from the time between two runs.

A job that was stopped on Monday and resumed on Tuesday has run for the length of its runs together. Charts
go along that running time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from claude_executor.bulk.report.lines import Floats


class Ran(NamedTuple):
    """One run: the Unix times of its beginning and its end, and whether its end was recorded."""

    began: float
    ended: float
    ended_well: bool


class Limit(NamedTuple):
    """A limit in force from an instant on: amount per minute, its source, the size of its bucket."""

    at: float
    limit: float
    source: str
    capacity: float


@dataclass(frozen=True, slots=True)
class History:
    """A timeline in columns. Each column has an entry for every line that is not the first of a run.

    Attributes:
        runs: The runs, in order.
        at: Unix time of each line.
        since: Unix time of the line before.
    """

    runs: tuple[Ran, ...]
    at: Floats
    since: Floats
    _lines: tuple[Mapping[str, Any], ...]

    def __bool__(self) -> bool:
        return bool(self._lines)

    def counts(self, name: str) -> Floats:
        """Return how many of something happened since the line before: ``"attempts"``, ``"429"``."""
        return np.array([_number(line.get(name)) for line in self._lines])

    @property
    def pools(self) -> list[str]:
        """The pools in which any request was sent or waited, the busiest first."""
        weight: dict[str, float] = {}
        for line in self._lines:
            for name, value in _mapping(line.get("pools")).items():
                pool = _mapping(value)
                more = _number(pool.get("running")) + sum(_numbers(pool.get("held")).values())
                weight[name] = weight.get(name, 0.0) + more
        return sorted((name for name in weight if weight[name]), key=lambda name: -weight[name])

    def now(self, pool: str, name: str) -> Floats:
        """Return a state of a pool at each line: ``"running"``, ``"queued"``, ``"concurrency"``."""
        return np.array([_number(said.get(name)) for said in self._of(pool)])

    def amounts(self, pool: str, what: str) -> dict[str, Floats]:
        """Return amounts in a pool since the line before, by resource or reason: ``"used"``, ``"held"``."""
        lines = [_numbers(said.get(what)) for said in self._of(pool)]
        names = dict.fromkeys(name for line in lines for name in line)
        return {name: np.array([line.get(name, 0.0) for line in lines]) for name in names}

    def levels(self, pool: str, resource: str) -> Floats:
        """Return how full the bucket was: 0 to 1, below 0 in debt, `nan` where it is unknown."""
        levels, full = np.full(len(self._lines), math.nan), math.nan
        for index, said in enumerate(self._of(pool)):
            limit = _limit(0.0, _mapping(said.get("limits")).get(resource))
            full = limit.capacity if limit is not None and limit.capacity > 0 else full
            level = _numbers(said.get("level")).get(resource)
            if level is not None:
                levels[index] = level / full
        return levels

    def limits(self, pool: str) -> dict[str, list[Limit]]:
        """Return the limits of a pool by resource, with an entry for every change."""
        found: dict[str, list[Limit]] = {}
        for at, said in zip(self.at.tolist(), self._of(pool), strict=True):
            for resource, value in _mapping(said.get("limits")).items():
                if (limit := _limit(at, value)) is not None:
                    found.setdefault(resource, []).append(limit)
        return found

    def _of(self, pool: str) -> Iterable[Mapping[str, Any]]:
        return (_mapping(_mapping(line.get("pools")).get(pool)) for line in self._lines)


def read_history(path: Path) -> History:
    """Read a timeline. The history of a file that does not exist is empty.

    Raises:
        OSError: The file exists and cannot be read.
    """
    lines: list[Mapping[str, Any]] = []
    times: list[tuple[float, float]] = []
    runs: list[Ran] = []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return History((), np.zeros(0), np.zeros(0), ())
    with file:
        for line in file:
            said = _read(line)
            at = _number(said.get("at"))
            if not at:
                continue
            if "start" in said or not runs or runs[-1].ended_well:
                runs.append(Ran(at, at, ended_well=False))
            if "start" in said:
                continue
            before = runs[-1]
            at = max(at, before.ended)  # the clock may have been set back
            runs[-1] = Ran(before.began, at, ended_well="end" in said)
            times.append((before.ended, at))
            lines.append(said)
    since, until = np.array(times).reshape(-1, 2).T
    return History(tuple(runs), until, since, tuple(lines))


class Axis:
    """Running time: converts instants in Unix time to seconds for which the job has run.

    Attributes:
        began: The instant at which the job began.
        length: Running time in total.
        seams: Running times at which one run ends and the next begins.
    """

    def __init__(self, runs: Iterable[Ran], first: float, last: float) -> None:
        """Join the runs of a job.

        Args:
            runs: The runs.
            first: When the first result was requested; it may be earlier than all runs.
            last: When the last result arrived; it may be later than all runs.
        """
        spans = sorted((run.began, run.ended) for run in runs)
        if first <= last:
            spans = spans or [(first, last)]
            spans[0] = (min(first, spans[0][0]), spans[0][1])
            spans[-1] = (spans[-1][0], max(last, spans[-1][1]))
        walls, times, seconds = list[float](), list[float](), 0.0
        for began, ended in spans:
            start = max(began, walls[-1]) if walls else began
            walls += [start, max(start, ended)]
            times += [seconds, seconds + max(0.0, ended - start)]
            seconds = times[-1]
        self.began = walls[0] if walls else math.nan
        self.length = seconds
        self.seams = [seam for seam in times[2::2] if 0.0 < seam < seconds]
        self._walls, self._times = np.array(walls or [0.0]), np.array(times or [0.0])

    def seconds(self, at: Floats) -> Floats:
        """Return the running time of instants."""
        running: Floats = np.interp(at, self._walls, self._times)
        return running


# ---- values that may be anything: the file may have been cut or edited


def _read(line: bytes) -> Mapping[str, Any]:
    try:
        return _mapping(orjson.loads(line))
    except orjson.JSONDecodeError:
        return {}


def _limit(at: float, value: object) -> Limit | None:
    if not isinstance(value, list):
        return None
    limit, source, capacity = (*cast("list[object]", value), None, None, None)[:3]
    return Limit(at, _number(limit), str(source), _number(capacity)) if _number(limit) > 0 else None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    return {name: _number(one) for name, one in _mapping(value).items()}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0.0
