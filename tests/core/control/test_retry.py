"""What went wrong, what follows from it, and when it is tried again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.control.retry import RetryPolicy, RetryQuota
from claude_executor.core.model.cost import Resource
from claude_executor.core.model.failure import (
    FAILURE_POLICIES,
    FailureKind,
    FailurePolicy,
    Scope,
    classify,
    ramp_quoted,
    resource_named,
)

examples = settings(max_examples=150, deadline=None)

ON_HOLD = "organization_on_hold"
TIER_CAP = (
    "You have reached your API usage limits: your organization has crossed its monthly API usage threshold"
)
RATE = "This request would exceed the rate limit for your organization (x) of 50,000 input tokens per minute."
RAMP = "This request would exceed your organization's maximum usage increase rate for input tokens per minute"

# status, error.type, error_code, message -> what it is, and whether the same request is tried again
TAXONOMY = [
    (400, "invalid_request_error", None, "max_tokens: must be positive", FailureKind.INVALID, False),
    (400, "invalid_request_error", None, "prompt is too long", FailureKind.INVALID, False),
    (
        400,
        "invalid_request_error",
        None,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01",
        FailureKind.SPEND_LIMIT,
        False,
    ),
    (
        400,
        "invalid_request_error",
        None,
        "You have reached your specified workspace API usage limits.",
        FailureKind.SPEND_LIMIT,
        False,
    ),
    (
        400,
        "invalid_request_error",
        None,
        "Your credit balance is too low to access the Anthropic API.",
        FailureKind.BILLING,
        False,
    ),
    (400, "invalid_request_error", ON_HOLD, "On hold.", FailureKind.AUTHENTICATION, False),
    (401, "authentication_error", None, "invalid x-api-key", FailureKind.AUTHENTICATION, False),
    (402, "billing_error", None, "", FailureKind.BILLING, False),
    (402, "billing_error", "linked_organization_spend_limit_reached", "", FailureKind.BILLING, False),
    (402, "billing_error", "linked_organization_billing_unavailable", "", FailureKind.BILLING, False),
    (403, "permission_error", None, "", FailureKind.PERMISSION, False),
    (404, "not_found_error", None, "model: claude-opus-9", FailureKind.NOT_FOUND, False),
    (408, None, None, "", FailureKind.TIMEOUT, True),
    (409, "conflict_error", None, "", FailureKind.CONFLICT, True),
    (412, None, None, "", FailureKind.INVALID, False),
    (431, None, None, "", FailureKind.INVALID, False),
    (499, None, None, "", FailureKind.INVALID, False),
    (413, "request_too_large", None, "", FailureKind.TOO_LARGE, False),
    (413, None, None, "<html>cloudflare</html>", FailureKind.TOO_LARGE, False),
    (422, None, None, "", FailureKind.INVALID, False),
    (429, "rate_limit_error", None, RATE, FailureKind.QUOTA, True),
    (429, "rate_limit_error", None, "Number of concurrent connections has exceeded", FailureKind.QUOTA, True),
    (429, "rate_limit_error", "never_heard_of", "", FailureKind.QUOTA, True),
    (429, None, None, "", FailureKind.QUOTA, True),
    (429, "rate_limit_error", "ramp_limit_exceeded", RAMP, FailureKind.RAMP, True),
    (429, "rate_limit_error", "enforced_spend_limit_reached", TIER_CAP, FailureKind.SPEND_LIMIT, False),
    (429, "rate_limit_error", None, TIER_CAP, FailureKind.SPEND_LIMIT, False),
    (429, "rate_limit_error", "contract_spend_limit_reached", "", FailureKind.SPEND_LIMIT, False),
    (500, "api_error", None, "", FailureKind.SERVER, True),
    (501, None, None, "", FailureKind.NOT_IMPLEMENTED, False),
    (502, "api_error", None, "", FailureKind.SERVER, True),
    (503, None, "cmek_key_unavailable", "", FailureKind.SERVER, True),
    (504, "timeout_error", None, "", FailureKind.TIMEOUT, True),
    (520, None, None, "<html>", FailureKind.SERVER, True),
    (529, "overloaded_error", None, "Overloaded", FailureKind.OVERLOADED, True),
    # inside a stream that began with 200
    (200, "overloaded_error", None, "Overloaded", FailureKind.OVERLOADED, True),
    (200, "rate_limit_error", None, "Rate limited", FailureKind.QUOTA, True),
    (200, "rate_limit_error", "ramp_limit_exceeded", RAMP, FailureKind.RAMP, True),
    (200, "api_error", None, "Internal server error", FailureKind.SERVER, True),
    (200, "timeout_error", None, "", FailureKind.TIMEOUT, True),
    (200, "invalid_request_error", None, "", FailureKind.INVALID, False),
    (200, "authentication_error", None, "", FailureKind.AUTHENTICATION, False),
    (200, "billing_error", None, "", FailureKind.BILLING, False),
    (200, "permission_error", None, "", FailureKind.PERMISSION, False),
    (200, "not_found_error", None, "", FailureKind.NOT_FOUND, False),
    (200, "request_too_large", None, "", FailureKind.TOO_LARGE, False),
    (200, "conflict_error", None, "", FailureKind.CONFLICT, True),
    (200, "throttlingException", None, "", FailureKind.SERVER, True),  # a cloud's own word
    (200, None, None, "", FailureKind.SERVER, True),  # an error event nobody can read
    # what no documentation names
    (302, None, None, "", FailureKind.INVALID, False),
    (418, "teapot_error", None, "", FailureKind.INVALID, False),
]


@pytest.mark.parametrize(("status", "type_", "code", "message", "kind", "retry"), TAXONOMY)
def test_every_answer_is_named_and_treated(status, type_, code, message, kind, retry):
    """Each row of the API's error taxonomy has its name, and is tried again or not."""
    assert classify(status, type_, code, message) is kind
    assert FAILURE_POLICIES[kind].retry is retry


QUOTA = FailurePolicy(retry=True, counts=False, overload=False, refund=True, scope=Scope.REQUEST)
STOP_ALL = FailurePolicy(retry=False, counts=True, overload=False, refund=True, scope=Scope.EVERYTHING)
STOP_MODEL = FailurePolicy(retry=False, counts=True, overload=False, refund=True, scope=Scope.MODEL)
REFUSED = FailurePolicy(retry=False, counts=True, overload=False, refund=True, scope=Scope.REQUEST)
STRUGGLING = FailurePolicy(retry=True, counts=True, overload=True, refund=False, scope=Scope.REQUEST)


@pytest.mark.parametrize(
    ("kind", "treatment"),
    [
        (FailureKind.QUOTA, QUOTA),
        (FailureKind.RAMP, QUOTA),
        (FailureKind.SPEND_LIMIT, STOP_ALL),
        (FailureKind.BILLING, STOP_ALL),
        (FailureKind.AUTHENTICATION, STOP_ALL),
        (FailureKind.PERMISSION, STOP_MODEL),
        (FailureKind.NOT_FOUND, STOP_MODEL),
        (FailureKind.INVALID, REFUSED),
        (FailureKind.TOO_LARGE, REFUSED),
        (FailureKind.NOT_IMPLEMENTED, REFUSED),
        (FailureKind.CONFLICT, FailurePolicy(retry=True)),
        (FailureKind.OVERLOADED, FailurePolicy(retry=True, counts=False, overload=True, refund=True)),
        (FailureKind.SERVER, STRUGGLING),
        (FailureKind.TIMEOUT, STRUGGLING),  # it may have run and been charged: no refund
        (FailureKind.DROPPED, STRUGGLING),
        (FailureKind.UNREACHABLE, FailurePolicy(retry=True, overload=True, refund=True)),  # surely not sent
        (FailureKind.TRUNCATED, FailurePolicy(retry=True, overload=True)),
        (FailureKind.GARBLED, FailurePolicy(retry=True, overload=True)),
        (FailureKind.UNEXPECTED, FailurePolicy(retry=False)),
    ],
)
def test_every_kind_has_its_treatment(kind, treatment):
    """What is retried, what counts as an attempt, what is overload, what is refunded, what else it stops."""
    assert FAILURE_POLICIES[kind] == treatment


def test_no_kind_is_without_treatment():
    """The table is complete."""
    assert set(FAILURE_POLICIES) == set(FailureKind)


@examples
@given(
    st.integers(100, 599),
    st.one_of(st.none(), st.text(max_size=30)),
    st.one_of(st.none(), st.text(max_size=30)),
    st.text(max_size=80),
)
def test_every_answer_has_a_name(status, type_, code, message):
    """No status, type, code or message is unknown to the point of an error."""
    assert classify(status, type_, code, message) in FAILURE_POLICIES


@pytest.mark.parametrize(
    ("message", "resource"),
    [
        (RATE, Resource.INPUT),
        (RATE.replace("input tokens", "output tokens"), Resource.OUTPUT),
        (RATE.replace("input tokens", "requests"), Resource.REQUESTS),
        ("Number of concurrent connections has exceeded your rate limit.", None),
        ("", None),
    ],
)
def test_a_429_may_name_what_was_short(message, resource):
    """The message is the only place where the API says it."""
    assert resource_named(message) is resource


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        (
            RAMP + " (org: x, model: y). Your current limit is 25,000 input tokens per minute, and will"
            " increase to 95,000 at the next minute boundary.",
            (25_000.0, 95_000.0),
        ),
        (RAMP + ". Your current limit is 58276, and will increase to 68276 at the", (58_276.0, 68_276.0)),
        (RAMP, None),
        ("", None),
    ],
)
def test_a_429_for_growth_may_quote_its_figures(message, quoted):
    """What this minute may use and what the next."""
    assert ramp_quoted(message) == quoted


@examples
@given(hint=st.floats(0, 1e6), u=st.floats(0, 1, exclude_max=True), retries=st.integers(0, 100))
def test_a_hint_is_never_undercut_and_jitter_is_only_added(hint, u, retries):
    """The wait is at least what the API asked for, and at most a tenth and a little more."""
    delay = RetryPolicy().delay(retries, u, retry_after=hint)
    assert hint <= delay <= 1.1 * hint + 0.05 + 1e-9 * hint
    assert RetryPolicy().delay(retries, 0.0, retry_after=hint) == hint


def test_equal_hints_do_not_wake_together():
    """A hundred jobs told "7" come back spread over most of a second."""
    delays = [RetryPolicy().delay(0, u / 100, retry_after=7.0) for u in range(100)]
    assert len(set(delays)) == 100
    assert max(delays) - min(delays) > 0.7


@examples
@given(u=st.floats(0, 1, exclude_max=True), retries=st.integers(0, 5_000))
def test_full_jitter_lies_between_nothing_and_the_doubling_bound(u, retries):
    """Without a hint the wait is uniform below base * 2**k, and below the cap."""
    policy = RetryPolicy(base=0.5, cap=20.0)
    delay = policy.delay(retries, u)
    assert 0.0 <= delay <= min(20.0, 0.5 * 2.0 ** min(retries, 50))
    assert delay == pytest.approx(u * min(20.0, 0.5 * 2.0 ** min(retries, 50)))


@pytest.mark.parametrize(
    ("retries", "bound"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (99, 30), (10**6, 30)]
)
def test_the_bound_doubles_up_to_the_cap(retries, bound):
    """1, 2, 4, … 30 seconds by default, however many retries there were."""
    assert RetryPolicy().delay(retries, 0.5) == bound / 2


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"base": 0}, {"cap": 0}, {"base": -1}, {"ratio": -0.1}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    """At least one attempt, positive seconds, no negative budget."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_one_attempt_and_no_budget_are_allowed():
    """The smallest policy that makes sense."""
    assert RetryPolicy(max_attempts=1, ratio=0).max_attempts == 1


def spend(budget, now):
    """Take retries until one has to wait."""
    taken = 0
    while budget.ready_at(now) <= now:
        budget.take(now)
        taken += 1
    return taken


def test_a_quiet_executor_has_a_small_floor_of_retries():
    """The floor is there at once, refills by the trickle, and no further."""
    budget = RetryQuota(0.2, 0.0)
    assert spend(budget, 0.0) == RetryQuota.FLOOR
    assert budget.ready_at(0.0) == pytest.approx(1 / RetryQuota.TRICKLE)
    assert spend(budget, 3.0) == 3 * RetryQuota.TRICKLE
    assert spend(budget, 10_000.0) == RetryQuota.FLOOR


def test_requests_earn_their_fraction():
    """A hundred first attempts allow twenty retries, beyond the floor and up to the ceiling."""
    budget = RetryQuota(0.2, 0.0)
    spend(budget, 0.0)
    for _ in range(100):
        budget.earn(0.0)
    assert 19 <= spend(budget, 0.0) <= 20  # a hundred fifths are not exactly twenty in floating point
    for _ in range(100_000):
        budget.earn(0.0)
    assert spend(budget, 0.0) == RetryQuota.CEILING


def test_the_trickle_takes_nothing_away_above_the_floor():
    """What requests have earned does not go by waiting."""
    budget = RetryQuota(1.0, 0.0)
    for _ in range(40):
        budget.earn(0.0)
    assert spend(budget, 100.0) == 50


def test_a_retry_that_succeeds_gets_its_own_back():
    """Retries that help cost nothing."""
    budget = RetryQuota(0.2, 0.0)
    for _ in range(1_000):
        assert budget.ready_at(0.0) <= 0.0
        budget.take(0.0)
        budget.earn(0.0, succeeded_retry=True)
    assert spend(budget, 0.0) == RetryQuota.FLOOR


@examples
@given(
    now=st.sampled_from([0.0, 0.3, 1e3 / 7, 1e9 / 3]),
    fraction=st.floats(0, 1),
    gaps=st.lists(st.floats(0, 2), max_size=60),
)
def test_in_any_span_retries_are_bounded_by_requests_and_trickle(now, fraction, gaps):
    """Retries <= floor + fraction * requests + trickle * seconds; `ready_at` needs few wakings."""
    budget, begun, requests = RetryQuota(fraction, now), now, 0
    for retries, gap in enumerate(gaps, start=1):
        now += gap
        if retries % 3 == 1:
            budget.earn(now)
            requests += 1
        wakings = 0
        while (at := budget.ready_at(now)) > now:
            now, wakings = at, wakings + 1
        assert wakings <= 2
        budget.take(now)
        allowed = RetryQuota.FLOOR + fraction * requests + RetryQuota.TRICKLE * (now - begun)
        assert retries <= allowed + 1e-6


def test_a_backward_clock_earns_no_retries():
    """Time that steps back and forth trickles once."""
    budget = RetryQuota(0.0, 0.0)
    spend(budget, 0.0)
    budget.ready_at(5.0)
    budget.ready_at(0.0)
    assert spend(budget, 5.0) == 5 * RetryQuota.TRICKLE
