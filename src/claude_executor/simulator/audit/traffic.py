"""Traffic statistics: requests, tokens, concurrency, admissions per second."""

from dataclasses import dataclass, field
from typing import Any

_LONGEST_SERIES = 7_200


@dataclass(slots=True)
class _TokenCounts:
    input: int = 0
    cache_read: int = 0
    cache_written: int = 0
    output: float = 0.0


@dataclass(slots=True)
class TrafficRecord:
    """The counts behind ``GET /simulator/stats``.

    Attributes:
        in_flight: Requests in flight now.
        peak_in_flight: The most requests that were in flight at once.
    """

    in_flight: int = 0
    peak_in_flight: int = 0
    _statuses: dict[str, int] = field(default_factory=dict[str, int])
    _causes: dict[str, int] = field(default_factory=dict[str, int])
    _tokens: dict[str, _TokenCounts] = field(default_factory=dict[str, _TokenCounts])
    _admitted: int = 0
    _first_at: float | None = None
    _last_at: float | None = None
    _series: dict[int, int] = field(default_factory=dict[int, int])

    def enter(self) -> None:
        """Count a request that arrived."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def leave(self, status: int, cause: str) -> None:
        """Count a request that ended.

        Args:
            status: The HTTP status; 0 if there was no response.
            cause: The outcome.
        """
        self.in_flight -= 1
        key = str(status)
        self._statuses[key] = self._statuses.get(key, 0) + 1
        self._causes[cause] = self._causes.get(cause, 0) + 1

    def admitted(self, now: float) -> None:
        """Count a request that passed every limit."""
        self._admitted += 1
        if self._first_at is None:
            self._first_at = now
        self._last_at = now
        second = int(now)
        self._series[second] = self._series.get(second, 0) + 1
        if len(self._series) > _LONGEST_SERIES:
            del self._series[next(iter(self._series))]

    def read(self, pool: str, *, fresh: int, cache_read: int, cache_written: int) -> None:
        """Count the input tokens of a prompt."""
        tokens = self._of(pool)
        tokens.input += fresh
        tokens.cache_read += cache_read
        tokens.cache_written += cache_written

    def wrote(self, pool: str, produced: float) -> None:
        """Count the output tokens of an answer that ended."""
        self._of(pool).output += produced

    def _of(self, pool: str) -> _TokenCounts:
        tokens = self._tokens.get(pool)
        if tokens is None:
            tokens = self._tokens[pool] = _TokenCounts()
        return tokens

    def report(self) -> dict[str, Any]:
        """Return all counts as JSON values."""
        return {
            "requests": sum(self._statuses.values()),
            "by_status": dict(self._statuses),
            "by_cause": dict(self._causes),
            "admitted": self._admitted,
            "first_admitted_at": self._first_at,
            "last_admitted_at": self._last_at,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "tokens": {
                pool: {
                    "input": tokens.input,
                    "cache_read": tokens.cache_read,
                    "cache_written": tokens.cache_written,
                    "output": round(tokens.output),
                }
                for pool, tokens in self._tokens.items()
            },
            "admitted_per_second": [[second, count] for second, count in self._series.items()],
        }
