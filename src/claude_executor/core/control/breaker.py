"""A circuit breaker: stops sending while the API is down, and probes for its return.

States and transitions::

    CLOSED ── too many failures ──▶ OPEN ── pause over ──▶ HALF_OPEN ── probe succeeds ──▶ CLOSED
                                     ▲                         │
                                     └────── probe fails ──────┘

CLOSED opens on either of two signs: at least `ratio` of at least `volume` calls in the last `WINDOW` seconds
failed; or, much sooner in a total outage, `streak` failures in a row, which are at least `ratio` of all
requests sent since the first of them. Only a success *sent after that first failure* ends a streak: an answer
to a request from before the outage says nothing about now.

OPEN pauses the queue; no request fails because of it. The pause grows with the outage, to ``ELAPSED_SHARE``
of the time it has lasted, between `pause` and `max_pause`: the end of an outage is noticed within a fifth of
its length, and an hour's outage costs some thirty probes.

HALF_OPEN lets one probe through at a time. A probe that is cancelled or lost makes room for another one
(`on_probe_abandoned`).

Only overload counts (`FailurePolicy.overload`): a 429 is about quota, and a 400 is about one request.
"""

from collections import deque
from dataclasses import dataclass

from claude_executor.core.model.gate import BreakerState

WINDOW = 30.0
"""Seconds of calls that count towards the failure ratio."""
ELAPSED_SHARE = 0.2
"""Length of a pause, as a fraction of the outage so far."""
JITTER = 0.2
"""Largest extension of a pause, as a fraction of it, so that executors do not probe in step."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Thresholds at which a circuit breaker opens, and the length of its pauses.

    Attributes:
        streak: Failures in a row that open the breaker.
        ratio: Fraction of failed calls that opens the breaker.
        volume: Least number of recent calls (`WINDOW`) for which the ratio counts.
        pause: Shortest pause, in seconds.
        max_pause: Longest pause, in seconds.
    """

    streak: int = 8
    ratio: float = 0.6
    volume: int = 20
    pause: float = 1.0
    max_pause: float = 60.0

    def __post_init__(self) -> None:
        if self.streak < 1 or self.volume < 1 or not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"streak and volume must be at least 1 and ratio between 0 and 1, got {self}")
        if not 0.0 < self.pause <= self.max_pause:
            raise ValueError(f"pause must be positive seconds and max_pause not shorter, got {self}")


class CircuitBreaker:
    """The circuit breaker of one pool.

    Attributes:
        state: The current state.
        opens_at: The instant at which the breaker lets a probe through; meaningful while `state` is OPEN.
        tripped_at: The instant at which the current or last outage was noticed.
    """

    __slots__ = (
        "_calls",
        "_failed",
        "_not_before",
        "_policy",
        "_probing",
        "_sent_in_streak",
        "_slots",
        "_streak",
        "_streak_sent_at",
        "opens_at",
        "state",
        "tripped_at",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self.state = BreakerState.CLOSED
        self.opens_at = 0.0
        self.tripped_at = 0.0
        self._not_before = 0.0
        self._probing = False
        self._slots: deque[list[float]] = deque()  # [second, calls, failures]
        self._calls = self._failed = 0.0
        self._streak = 0
        self._streak_sent_at = 0.0
        self._sent_in_streak = 0

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state.value}, {self._failed:g}/{self._calls:g} failed>"

    def admits_at(self, now: float) -> float | None:
        """Return the instant from which a request may start; None while the result of a probe is awaited."""
        if self.state is BreakerState.CLOSED:
            return now
        if self.state is BreakerState.OPEN:
            if self.opens_at > now:
                return self.opens_at
            self.state = BreakerState.HALF_OPEN
        return None if self._probing else now

    def on_start(self) -> bool:
        """Count a request that starts. Return whether it is the probe."""
        self._sent_in_streak += 1
        if self.state is BreakerState.HALF_OPEN:
            self._probing = True
            return True
        return False

    def on_probe_abandoned(self) -> None:
        """Release a probe that says nothing about the service (cancelled, refused by quota, invalid)."""
        self._probing = False

    @property
    def probing(self) -> bool:
        """Whether a probe is in flight."""
        return self._probing

    def on_peer_opened(self, opens_at: float, tripped_at: float) -> None:
        """Open along with the breaker of a peer; both instants are on this executor's clock."""
        if self.state is BreakerState.CLOSED:
            self.tripped_at = tripped_at
        if not self._probing:
            self.state = BreakerState.OPEN
            self.opens_at = opens_at

    def on_peer_closed(self) -> None:
        """Close along with the breaker of a peer."""
        self.state = BreakerState.CLOSED
        self._probing = False
        self._reset_counts()

    def on_success(self, sent_at: float, now: float, *, probe: bool) -> bool:
        """Count an answered request. Return whether it closed the breaker."""
        if self._streak and sent_at > self._streak_sent_at:
            self._streak = 0
        if self.state is BreakerState.CLOSED:
            self._record(now, failed=False)
            return False
        if not probe:
            return False
        self.state = BreakerState.CLOSED
        self._probing = False
        self._reset_counts()
        return True

    def _reset_counts(self) -> None:
        self._slots.clear()
        self._calls = self._failed = 0.0
        self._streak = 0

    def on_failure(
        self, sent_at: float, now: float, u: float, *, probe: bool, retry_after: float | None = None
    ) -> bool:
        """Count a request that met overload.

        Args:
            sent_at: The instant at which the request was sent.
            now: The current instant.
            u: A random number from [0, 1).
            probe: Whether the request was the probe.
            retry_after: The API's `retry-after` in seconds. No pause is shorter than any failure asked for.

        Returns:
            Whether the failure opened the breaker, or kept it open after a probe.
        """
        self._not_before = max(self._not_before, now + (retry_after or 0.0))
        if self.state is BreakerState.CLOSED:
            self._record(now, failed=True)
            if not self._streak:
                self._streak_sent_at = sent_at
                self._sent_in_streak = 0
            self._streak += 1
            by_ratio = self._calls >= self._policy.volume and self._failed >= self._policy.ratio * self._calls
            by_streak = (
                self._streak >= self._policy.streak
                and self._streak >= self._policy.ratio * self._sent_in_streak
            )
            if not (by_streak or by_ratio):
                return False
            self.tripped_at = now
        elif not probe:
            return False
        elapsed = now - self.tripped_at
        pause = min(self._policy.max_pause, max(self._policy.pause, ELAPSED_SHARE * elapsed))
        self.state = BreakerState.OPEN
        self._probing = False
        self.opens_at = now + max(pause, self._not_before - now) * (1.0 + JITTER * u)
        return True

    def _record(self, now: float, *, failed: bool) -> None:
        second = now // 1.0
        if not self._slots or self._slots[-1][0] < second:
            self._slots.append([second, 0.0, 0.0])
        self._slots[-1][1] += 1.0
        self._calls += 1.0
        if failed:
            self._slots[-1][2] += 1.0
            self._failed += 1.0
        while self._slots[0][0] < second - WINDOW:
            _, calls, failures = self._slots.popleft()
            self._calls -= calls
            self._failed -= failures
