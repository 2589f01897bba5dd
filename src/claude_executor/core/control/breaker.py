"""A circuit breaker: when the API is down, stop asking everybody to prove it.

States and what moves between them::

    CLOSED ── too many failures ──▶ OPEN ── pause over ──▶ HALF_OPEN ── probe succeeds ──▶ CLOSED
                                     ▲                         │
                                     └────── probe fails ──────┘

CLOSED opens on either sign: at least `ratio` of at least `volume` calls in the last `WINDOW` seconds failed;
or, much sooner when everything fails, a streak of `streak` failures that are at least `ratio` of all that was
sent since the first of them. Only a success *sent after that first failure* ends a streak: an answer to a
request from before the trouble says nothing about now.

OPEN pauses the line; nothing fails because of it. The pause grows with the trouble, ``ELAPSED_SHARE`` of the
time it has lasted between `pause` and `max_pause`: the end of an outage is noticed within a fifth of its
length, and an hour's outage costs some thirty probes.

HALF_OPEN lets one probe through at a time. A probe that is cancelled or lost frees its place (`forget`).

Only overload counts (`FailurePolicy.overload`): a 429 is about quota, and a 400 is about one request.
"""

from collections import deque
from dataclasses import dataclass

from claude_executor.core.model.gate import BreakerState

WINDOW = 30.0
ELAPSED_SHARE = 0.2
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open, and for how long.

    Attributes:
        streak: Failures in a row that open it.
        ratio: Share of failed calls that opens it.
        volume: Calls in the window below which the share says nothing.
        pause: Seconds of the shortest pause.
        max_pause: Seconds of the longest.
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
    """Counts failures of one pool of models, and says when its requests may go."""

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
        """The instant from which a request may start; `None` while a probe is out and only it can tell."""
        if self.state is BreakerState.CLOSED:
            return now
        if self.state is BreakerState.OPEN:
            if self.opens_at > now:
                return self.opens_at
            self.state = BreakerState.HALF_OPEN
        return None if self._probing else now

    def on_start(self) -> bool:
        """A request was let through; whether it is the probe."""
        self._sent_in_streak += 1
        if self.state is BreakerState.HALF_OPEN:
            self._probing = True
            return True
        return False

    def on_probe_abandoned(self) -> None:
        """The probe came back without an answer about the service (cancelled, refused by quota, invalid)."""
        self._probing = False

    @property
    def probing(self) -> bool:
        """Whether a probe is out."""
        return self._probing

    def on_peer_opened(self, opens_at: float, tripped_at: float) -> None:
        """Another one, that asks the same API, has opened."""
        if self.state is BreakerState.CLOSED:
            self.tripped_at = tripped_at
        if not self._probing:
            self.state = BreakerState.OPEN
            self.opens_at = opens_at

    def on_peer_closed(self) -> None:
        """Another one, that asks the same API, has closed."""
        self.state = BreakerState.CLOSED
        self._probing = False
        self._forget_calls()

    def on_success(self, sent_at: float, now: float, *, probe: bool) -> bool:
        """A request was answered; whether that closed the breaker."""
        if self._streak and sent_at > self._streak_sent_at:
            self._streak = 0
        if self.state is BreakerState.CLOSED:
            self._note(now, failed=False)
            return False
        if not probe:
            return False
        self.state = BreakerState.CLOSED
        self._probing = False
        self._forget_calls()
        return True

    def _forget_calls(self) -> None:
        self._slots.clear()
        self._calls = self._failed = 0.0
        self._streak = 0

    def on_failure(
        self, sent_at: float, now: float, u: float, *, probe: bool, hint: float | None = None
    ) -> bool:
        """A request met overload; whether that opened the breaker, or kept it open after a probe.

        `hint` is a `retry-after` in seconds; the pause is never shorter than what any failure asked for.
        """
        self._not_before = max(self._not_before, now + (hint or 0.0))
        if self.state is BreakerState.CLOSED:
            self._note(now, failed=True)
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

    def _note(self, now: float, *, failed: bool) -> None:
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
