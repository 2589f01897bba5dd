"""The verdict on a client: was a request lost, paid for twice, or sent when it should not have been?

Findings are mistakes that a client could have known and avoided: retrying before ``retry-after`` is over,
repeating a permanent error, asking again for a complete answer, accepting a truncated one, giving up on a
request. The other figures are information only, because the client could not have known: requests in flight
when an error was sent, the depth of a bucket's debt, requests that overlapped.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
"""The names of the counts that must be zero for a verdict to be clean."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One mistake of the client.

    Attributes:
        kind: The name of the count in the verdict.
        identity: The request: its ``metadata.user_id``, or the hash of its body.
        at: The instant, on the simulator's clock.
        detail: A description in words.
    """

    kind: str
    identity: str
    at: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on a client so far. The first eight counts are findings, the others are information.

    Ask for the verdict at the end of a run: in the middle of one, a request that waits for its next attempt
    looks given up.

    Attributes:
        early_retries: Requests repeated before their own ``retry-after`` was over.
        forbidden_retries: Requests repeated after a permanent error: 400, 401, 402, 403, 404, 413, spend
            caps.
        duplicates: Answers delivered for requests that already had a complete answer: paid for twice.
        truncated_accepted: Truncated or garbled answers whose request was never sent again.
        resent_after_leaving: Requests that got a second answer although the client had disconnected while
            the first was being written: paid for twice. Disconnecting before the first token is free.
        sent_too_early: Requests rejected by a pool that had already told another request to wait. Requests
            that such a pool admits do no harm: a small one may fit where a large one did not.
        hammered_outage: Requests sent into a known outage, beyond ten plus one a second for each pool.
        given_up: Requests whose last attempt ended in an error or a broken connection and that a retry would
            have saved. Requests to pools that are out of service now do not count.

        requests: HTTP requests received.
        identities: Distinct requests among them.
        answered: Requests with at least one complete answer.
        truncated: Truncated or garbled answers, whether or not the request was sent again.
        early_others: Requests sent to a pool that had told another request to wait, admitted or not.
        overlapping: Requests sent while the same request was still in flight.
        sent_in_outage: Requests sent during outages.
        in_flight_at_outage: The number of requests in flight when each outage began.
        most_attempts: The highest number of attempts of one request.
        forgotten: Requests dropped from memory to bound it. One that comes back counts as new, so mistakes
            with it go unnoticed.
        refusals: 429 responses by pool and cause.
        debts: The deepest debt of each bucket by pool and resource, in tokens: the amount admitted above the
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
        """The findings that are not zero, by name."""
        return {name: count for name in FINDINGS if (count := getattr(self, name))}

    @property
    def clean(self) -> bool:
        """Whether the audit has no findings."""
        return not self.findings


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON values, with ``clean`` and ``findings``."""
    return asdict(verdict) | {"clean": verdict.clean, "findings": verdict.findings}
