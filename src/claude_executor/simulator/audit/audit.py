"""The audit of a client: the history of its requests, reduced to what the verdict needs.

The identity of a request is its ``metadata.user_id`` if it has one, else the hash of its body. Give equal
prompts different ids, or the second looks like a retry of the first.

Two rules keep the verdict fair:

* An error counts as known ``NOTICE_DELAY`` seconds after it was sent. Requests that arrive sooner may have
  been on their way and are no mistake. (A retry of the rejected request itself always is: its client has
  read the error.)
* Probing an outage is right, hammering it is wrong. Once the first error is known, each pool allows ten
  requests and one a second; every further one is a violation. A client that probes on behalf of all its
  requests stays far below that; a client whose every request retries on its own does not.

Memory is bounded. A settled request is kept as one small number under the hash of its identity, in two
generations; the older one is dropped when the younger is full. An open case is kept whole; if there are too
many, the oldest is judged as it stands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from claude_executor.simulator.audit.verdict import Verdict, Violation
from claude_executor.simulator.messages.errors import ErrorResponse

NOTICE_DELAY = 0.5
"""Seconds after which an error counts as known: the network's round trip, and time for a busy client."""

MOST_OPEN = 100_000
"""The number of open cases kept."""

GENERATION = 250_000
"""The number of settled identities in each of the two generations kept."""

FREE_PROBES = 10
PROBES_PER_SECOND = 1.0

_GRAIN = 1e-6
_MOST_VIOLATIONS = 1_000

_Ending = Literal["", "refused", "truncated", "left"]


@dataclass(slots=True)
class _Case:
    """An open case: a request that is in flight, or whose last response did not settle it."""

    pool: str
    attempts: int = 0
    running: int = 0
    wait_until: float = -1.0
    early: bool = False
    rejected: bool = False
    answered: bool = False
    abandoned: bool = False
    ending: _Ending = ""
    ended_at: float = 0.0

    @property
    def given_up(self) -> bool:
        """Whether the request is lost if the client does nothing more."""
        return self.ending == "refused" and not (self.running or self.answered or self.rejected)

    @property
    def cut_short(self) -> bool:
        """Whether the client seems to have accepted a truncated answer."""
        return self.ending == "truncated" and not (self.running or self.answered)


@dataclass(slots=True)
class _Outage:
    """A known outage of one pool, and the number of probes that are still allowed."""

    known_at: float
    probes: float = FREE_PROBES
    seen_at: float = 0.0

    def excused(self, now: float) -> bool:
        """Whether a request is allowed now; an allowed one is counted."""
        if now <= self.known_at + _GRAIN:
            return True
        since = max(self.seen_at, self.known_at)
        self.probes = min(FREE_PROBES, self.probes + (now - since) * PROBES_PER_SECOND)
        self.seen_at = now
        if self.probes + _GRAIN < 1:
            return False
        self.probes -= 1
        return True


class _SettledIdentities:
    """The attempts of each settled request; negative if it ended in a permanent error."""

    __slots__ = ("_generation", "_old", "_young", "forgotten")

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self.forgotten = 0

    def keep(self, identity: str, attempts: int) -> None:
        if len(self._young) >= self._generation:
            self.forgotten += len(self._old)
            self._young, self._old = {}, self._young
        self._young[hash(identity)] = attempts

    def take(self, identity: str) -> int:
        """Remove a request and return its attempts; 0 if it is unknown."""
        if not (self._young or self._old):
            return 0
        key = hash(identity)
        return self._young.pop(key, 0) or self._old.pop(key, 0)


@dataclass(slots=True)
class ClientAudit:
    """Watches one client: which requests arrive, and how each one ends.

    Args:
        most_open: The number of open cases kept.
        generation: The number of settled identities that are kept at least.
    """

    most_open: int = MOST_OPEN
    generation: int = GENERATION
    _open: dict[str, _Case] = field(init=False, default_factory=dict[str, _Case])
    _settled: _SettledIdentities = field(init=False)
    _closed: dict[str, tuple[float, float]] = field(
        init=False, default_factory=dict[str, tuple[float, float]]
    )
    _outages: dict[str, _Outage] = field(init=False, default_factory=dict[str, _Outage])
    _in_flight: list[int] = field(init=False, default_factory=list[int])
    _refusals: dict[str, dict[str, int]] = field(init=False, default_factory=dict[str, dict[str, int]])
    _counts: dict[str, int] = field(init=False, default_factory=dict[str, int])
    _violations: list[Violation] = field(init=False, default_factory=list[Violation])
    _most_attempts: int = field(init=False, default=0)
    _dropped: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._settled = _SettledIdentities(self.generation)

    def arrived(self, identity: str, pool: str, now: float, *, outage: bool) -> None:
        """Record a request that arrived."""
        self._count("requests")
        case = self._open.get(identity) or self._reopen(identity, pool)
        case.attempts += 1
        self._most_attempts = max(self._most_attempts, case.attempts)
        if case.running:
            self._count("overlapping")
        case.running += 1
        case.early = False
        if case.rejected:
            self._violate("forbidden_retries", identity, now, "sent again after a permanent error")
        elif now < case.wait_until - _GRAIN:
            early = case.wait_until - now
            self._violate(
                "early_retries", identity, now, f"sent again {early:.3f} s before its retry-after was over"
            )
        elif self._closed:
            known_at, until = self._closed.get(pool, (now, now))
            case.early = known_at + _GRAIN < now < until - _GRAIN
            if case.early:
                self._count("early_others")
        if outage:
            self._count("sent_in_outage")
            known = self._outages.setdefault(pool, _Outage(now + NOTICE_DELAY))
            if not known.excused(now):
                since = now - known.known_at
                self._violate("hammered_outage", identity, now, f"sent {since:.3f} s into a known outage")

    def refused(self, identity: str, pool: str, error: ErrorResponse, now: float) -> None:
        """Record an error response to a request."""
        case = self._end(identity, "refused", now)
        if error.status == 429:
            causes = self._refusals.setdefault(pool, {})
            causes[error.cause] = causes.get(error.cause, 0) + 1
        if error.retry_after is not None:
            if case.early:
                self._violate(
                    "sent_too_early", identity, now, "sent to a pool that had told the client to wait"
                )
            case.wait_until = now + error.retry_after
            known_at, until = self._closed.get(pool, (now + NOTICE_DELAY, now))
            if until <= now:
                known_at = now + NOTICE_DELAY
            self._closed[pool] = known_at, max(until, case.wait_until)
        case.rejected = case.rejected or error.permanent
        self._settle(identity, case)

    def answered(self, identity: str, now: float) -> None:
        """Record a complete answer that was delivered."""
        case = self._end(identity, "", now)
        if case.answered:
            self._violate("duplicates", identity, now, "answered completely a second time")
        else:
            self._count("answered")
            if case.abandoned:
                self._violate(
                    "resent_after_leaving", identity, now, "answered again after the client disconnected"
                )
        case.answered = True
        self._settle(identity, case)

    def broken(self, identity: str, now: float, *, begun: bool) -> None:
        """Record a request whose answer or connection broke.

        Args:
            identity: The request.
            now: The current instant.
            begun: Whether an answer had begun.
        """
        if begun:
            self._count("truncated")
        self._settle(identity, self._end(identity, "truncated" if begun else "refused", now))

    def left(self, identity: str, now: float, *, begun: bool) -> None:
        """Record a request whose client disconnected.

        Args:
            identity: The request.
            now: The current instant.
            begun: Whether an answer was being written.
        """
        case = self._end(identity, "left", now)
        if begun:
            if case.answered or case.abandoned:
                self._violate("resent_after_leaving", identity, now, "disconnected from a second answer")
            case.abandoned = True
        self._settle(identity, case)

    def outage_began(self, in_flight: int) -> None:
        """Record an outage that began while ``in_flight`` requests ran; no client knows of it yet."""
        self._in_flight.append(in_flight)
        self._outages.clear()

    def verdict(self, debts: Mapping[str, Mapping[str, float]], in_outage: Callable[[str], bool]) -> Verdict:
        """Return the verdict so far.

        Args:
            debts: The deepest debt of each bucket by pool and resource; the audit does not see the buckets.
            in_outage: Returns whether a pool is out of service now.
        """
        counts = self._counts
        cut_short = [
            Violation("truncated_accepted", identity, case.ended_at, "truncated and never sent again")
            for identity, case in self._open.items()
            if case.cut_short
        ]
        given_up = [
            Violation("given_up", identity, case.ended_at, "failed and never sent again")
            for identity, case in self._open.items()
            if case.given_up and not in_outage(case.pool)
        ]
        return Verdict(
            early_retries=counts.get("early_retries", 0),
            forbidden_retries=counts.get("forbidden_retries", 0),
            duplicates=counts.get("duplicates", 0),
            truncated_accepted=counts.get("truncated_accepted", 0) + len(cut_short),
            resent_after_leaving=counts.get("resent_after_leaving", 0),
            sent_too_early=counts.get("sent_too_early", 0),
            hammered_outage=counts.get("hammered_outage", 0),
            given_up=counts.get("given_up", 0) + len(given_up),
            requests=counts.get("requests", 0),
            identities=counts.get("identities", 0),
            answered=counts.get("answered", 0),
            truncated=counts.get("truncated", 0),
            early_others=counts.get("early_others", 0),
            overlapping=counts.get("overlapping", 0),
            sent_in_outage=counts.get("sent_in_outage", 0),
            in_flight_at_outage=tuple(self._in_flight),
            most_attempts=self._most_attempts,
            forgotten=self._dropped + self._settled.forgotten,
            refusals={pool: dict(causes) for pool, causes in self._refusals.items()},
            debts=debts,
            violations=tuple((self._violations + cut_short + given_up)[:_MOST_VIOLATIONS]),
        )

    def _reopen(self, identity: str, pool: str) -> _Case:
        attempts = self._settled.take(identity)
        if not attempts:
            self._count("identities")
        case = _Case(pool, abs(attempts), rejected=attempts < 0, answered=attempts > 0)
        self._open[identity] = case
        if len(self._open) > self.most_open:
            self._drop()
        return case

    def _drop(self) -> None:
        """Judge the oldest open case as it stands. One that is in flight moves to the end of the queue."""
        identity = next(iter(self._open))
        case = self._open.pop(identity)
        if case.running or not case.ending:
            self._open[identity] = case
            return
        self._dropped += 1
        if case.cut_short:
            self._count("truncated_accepted")
        if case.given_up:
            self._count("given_up")

    def _end(self, identity: str, ending: _Ending, now: float) -> _Case:
        case = self._open[identity]
        case.running -= 1
        case.ending = ending
        case.ended_at = now
        return case

    def _settle(self, identity: str, case: _Case) -> None:
        if not case.running and (case.rejected or case.answered):
            del self._open[identity]
            self._settled.keep(identity, -case.attempts if case.rejected else case.attempts)

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1

    def _violate(self, kind: str, identity: str, now: float, detail: str) -> None:
        self._count(kind)
        if len(self._violations) < _MOST_VIOLATIONS:
            self._violations.append(Violation(kind, identity, now, detail))
