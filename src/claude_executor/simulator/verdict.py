"""How the client behaved: was anything lost, paid for twice, or sent when it should not have been?

A client's request is known by its ``metadata.user_id`` if it has one, else by the hash of its body. Give
equal prompts different ids, or the second looks like a repetition of the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from claude_executor.simulator.refusals import Refusal

Ending = Literal["running", "answered", "refused", "truncated", "left"]

_GRAIN = 1e-6
_MOST_VIOLATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that a well-behaved client does not do.

    Attributes:
        kind: ``early_retry``, ``forbidden_retry``, ``duplicate`` or ``truncated_accepted``.
        identity: Whose request it was.
        at: When, on the simulator's clock.
        detail: What happened, in words.
    """

    kind: str
    identity: str
    at: float
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on a client so far. The first four counts are violations, the others are for information.

    Attributes:
        early_retries: Requests repeated before the ``retry-after`` that they were told was over.
        forbidden_retries: Requests repeated although their answer was final: 400, 401, 402, 403, 404, 413,
            spend caps.
        duplicates: Answers delivered for requests that had been answered in full before: paid for twice.
        truncated_accepted: Answers that broke off (or were garbage) and were never asked for again.
        requests: HTTP requests seen.
        identities: Different requests among them.
        answered: Requests that got a full answer at least once.
        given_up: Requests whose last answer was a refusal that might have been retried.
        early_others: Requests to a pool that had told another request to wait. Soft: they may have been under
            way.
        overlapping: Requests sent while the same request was still running.
        sent_in_outage: Requests sent during outages.
        in_flight_at_outage: Requests running when each outage began.
        most_attempts: The most often a single request was sent.
        refusals: 429s by pool and cause.
        debts: The deepest debt of each bucket by pool and resource, in tokens: what was let in above the
            limit.
        violations: The first thousand violations.
    """

    early_retries: int
    forbidden_retries: int
    duplicates: int
    truncated_accepted: int
    requests: int
    identities: int
    answered: int
    given_up: int
    early_others: int
    overlapping: int
    sent_in_outage: int
    in_flight_at_outage: tuple[int, ...]
    most_attempts: int
    refusals: Mapping[str, Mapping[str, int]]
    debts: Mapping[str, Mapping[str, float]]
    violations: tuple[Violation, ...]

    @property
    def clean(self) -> bool:
        """Whether there is no violation at all."""
        return not (
            self.early_retries or self.forbidden_retries or self.duplicates or self.truncated_accepted
        )


@dataclass(slots=True)
class _Case:
    attempts: int = 0
    running: int = 0
    wait_until: float = -1.0
    final: str = ""
    answers: int = 0
    ending: Ending = "running"
    ended_at: float = 0.0


@dataclass(slots=True)
class Witness:
    """Watches one client and gives the verdict. It sees what arrives and how each request ends."""

    _cases: dict[str, _Case] = field(default_factory=dict[str, _Case])
    _closed_until: dict[str, float] = field(default_factory=dict[str, float])
    _refusals: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    _counts: dict[str, int] = field(default_factory=dict[str, int])
    _violations: list[Violation] = field(default_factory=list[Violation])
    _outages: list[int] = field(default_factory=list[int])

    def arrived(self, identity: str, pool: str, now: float, *, outage: bool) -> None:
        """A request came in."""
        self._count("requests")
        case = self._cases.get(identity)
        if case is None:
            case = self._cases[identity] = _Case()
        case.attempts += 1
        if outage:
            self._count("sent_in_outage")
        if case.running:
            self._count("overlapping")
        if case.final:
            self._violate("forbidden_retry", identity, now, f"sent again after a final answer ({case.final})")
        elif now < case.wait_until - _GRAIN:
            early = case.wait_until - now
            self._violate("early_retry", identity, now, f"sent again {early:.3f} s before it was allowed to")
        elif now < self._closed_until.get(pool, now) - _GRAIN:
            self._count("early_others")
        case.running += 1

    def refused(self, identity: str, pool: str, refusal: Refusal, now: float) -> None:
        """A request was answered with an error."""
        case = self._end(identity, "refused", now)
        if refusal.final:
            case.final = refusal.cause
        if refusal.status == 429:
            causes = self._refusals.setdefault(pool, {})
            causes[refusal.cause] = causes.get(refusal.cause, 0) + 1
        if refusal.retry_after is not None:
            case.wait_until = now + refusal.retry_after
            self._closed_until[pool] = max(self._closed_until.get(pool, now), case.wait_until)

    def answered(self, identity: str, now: float) -> None:
        """A request was answered in full, and the answer was delivered."""
        case = self._end(identity, "answered", now)
        case.answers += 1
        if case.answers == 1:
            self._count("answered")
        else:
            self._violate("duplicate", identity, now, f"answered in full for the {case.answers}th time")

    def broken(self, identity: str, now: float, *, begun: bool) -> None:
        """An answer broke off (``begun``), or the connection broke before there was one."""
        self._end(identity, "truncated" if begun else "refused", now)

    def left(self, identity: str, now: float) -> None:
        """The client hung up."""
        self._end(identity, "left", now)

    def outage_began(self, in_flight: int) -> None:
        """An outage began while ``in_flight`` requests were running."""
        self._outages.append(in_flight)

    def verdict(self, debts: Mapping[str, Mapping[str, float]]) -> Verdict:
        """The judgement so far.

        Args:
            debts: The deepest debts, which the witness cannot see.
        """
        accepted = [
            (identity, case)
            for identity, case in self._cases.items()
            if case.ending == "truncated" and not case.running and not case.answers
        ]
        found = self._violations + [
            Violation(
                "truncated_accepted", identity, case.ended_at, "broke off and was never asked for again"
            )
            for identity, case in accepted
        ]
        return Verdict(
            early_retries=self._counts.get("early_retry", 0),
            forbidden_retries=self._counts.get("forbidden_retry", 0),
            duplicates=self._counts.get("duplicate", 0),
            truncated_accepted=len(accepted),
            requests=self._counts.get("requests", 0),
            identities=len(self._cases),
            answered=self._counts.get("answered", 0),
            given_up=sum(case.ending == "refused" and not case.final for case in self._cases.values()),
            early_others=self._counts.get("early_others", 0),
            overlapping=self._counts.get("overlapping", 0),
            sent_in_outage=self._counts.get("sent_in_outage", 0),
            in_flight_at_outage=tuple(self._outages),
            most_attempts=max((case.attempts for case in self._cases.values()), default=0),
            refusals={pool: dict(causes) for pool, causes in self._refusals.items()},
            debts=debts,
            violations=tuple(found[:_MOST_VIOLATIONS]),
        )

    def _end(self, identity: str, ending: Ending, now: float) -> _Case:
        case = self._cases[identity]
        case.running -= 1
        case.ending = ending
        case.ended_at = now
        return case

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1

    def _violate(self, kind: str, identity: str, now: float, detail: str) -> None:
        self._count(kind)
        if len(self._violations) < _MOST_VIOLATIONS:
            self._violations.append(Violation(kind, identity, now, detail))
