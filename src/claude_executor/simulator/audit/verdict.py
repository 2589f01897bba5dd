"""How the client behaved: was anything lost, paid for twice, or sent when it should not have been?

What makes a verdict not clean is what a client could have known and avoided: it was told to wait, it was told
no, it had its answer, its answer had visibly broken off, it let go of a row. What it could not know is only
told: what was under way when a refusal left, how deep a bucket went into debt, that two of its requests
overlapped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FINDINGS = (
    "early_retries",
    "forbidden_retries",
    "duplicates",
    "truncated_accepted",
    "resent_after_leaving",
    "sent_too_early",
    "hammered_outage",
    "given_up",
)
"""The counts that make a verdict not clean."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that a well-behaved client does not do.

    Attributes:
        kind: The name of the count in the verdict.
        identity: Whose request it was.
        at: When, on the simulator's clock.
        detail: What happened, in words.
    """

    kind: str
    identity: str
    at: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement on a client so far. The first eight counts are findings, the others are only told.

    Judge at the end of a run: in the middle of one, a request that waits for its next attempt looks given up.

    Attributes:
        early_retries: Requests repeated before the ``retry-after`` that they were told was over.
        forbidden_retries: Requests repeated although their answer was final: 400, 401, 402, 403, 404, 413,
            spend caps.
        duplicates: Answers delivered for requests that had been answered in full before: paid for twice.
        truncated_accepted: Answers that broke off (or were garbage) and were never asked for again.
        resent_after_leaving: Requests for which a second answer was begun although the client had hung up on
            one that was being written: paid for twice. Hanging up before the first token costs nothing.
        sent_too_early: Requests to a pool that had told another request to wait, and that were refused in
            their turn. Those that were let in did no harm: a smaller request may fit where a larger one did
            not.
        hammered_outage: Requests sent into an outage that the client knew of, beyond ten and one a second.
        given_up: Requests whose last answer was a refusal, or a broken connection, after which a retry would
            have been answered: not those of pools that are out of service at this moment.

        requests: HTTP requests seen.
        identities: Different requests among them.
        answered: Requests that got a full answer at least once.
        truncated: Answers that broke off, or were garbage, whether or not they were asked for again.
        early_others: Requests to a pool that had told another request to wait, let in or not.
        overlapping: Requests sent while the same request was still running.
        sent_in_outage: Requests sent during outages.
        in_flight_at_outage: Requests running when each outage began.
        most_attempts: The most often a single request was sent.
        forgotten: Identities that were dropped from memory to keep it small. If one of these comes again, it
            counts as new: what would be found against it goes unseen.
        refusals: 429s by pool and cause.
        debts: The deepest debt of each bucket by pool and resource, in tokens: what was let in above the
            limit.
        violations: The first thousand violations.
    """

    early_retries: int
    forbidden_retries: int
    duplicates: int
    truncated_accepted: int
    resent_after_leaving: int
    sent_too_early: int
    hammered_outage: int
    given_up: int
    requests: int
    identities: int
    answered: int
    truncated: int
    early_others: int
    overlapping: int
    sent_in_outage: int
    in_flight_at_outage: tuple[int, ...]
    most_attempts: int
    forgotten: int
    refusals: Mapping[str, Mapping[str, int]]
    debts: Mapping[str, Mapping[str, float]]
    violations: tuple[Violation, ...]

    @property
    def findings(self) -> dict[str, int]:
        """What makes the verdict not clean: the counts that are not zero, by name."""
        return {name: count for name in FINDINGS if (count := getattr(self, name))}

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings
