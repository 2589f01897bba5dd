"""What becomes of a request whose attempt failed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.factories import a_failure, a_job

from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.model.actions import Disposition
from claude_executor.core.model.failure import FAILURE_POLICIES, FailureKind, Scope
from claude_executor.core.scheduling.failure_decisions import FIRST_ATTEMPTS, RetryContext, decide, scope_of

CALM = RetryContext(reached=True, getting_through=True, fits=True, opens_at=0.0, retrying=True)
NOBODY_GETS_THROUGH = RetryContext(
    reached=True, getting_through=False, fits=True, opens_at=0.0, retrying=True
)
NOBODY_HOME = RetryContext(reached=False, getting_through=True, fits=True, opens_at=0.0, retrying=True)
NOBODY_HOME_AND_OPEN = RetryContext(
    reached=False, getting_through=False, fits=True, opens_at=0.0, retrying=True
)
TEARDOWN = RetryContext(reached=True, getting_through=True, fits=True, opens_at=0.0, retrying=False)
NEVER_FITS = RetryContext(reached=True, getting_through=True, fits=False, opens_at=0.0, retrying=True)

RETRIED = [kind for kind in FailureKind if FAILURE_POLICIES[kind].retry]


def after(kind, circumstances=CALM, *, attempts=1, counted=0, deadline_at=float("inf"), u=0.5, **more):
    """The verdict at second 100 on a job's so-manyeth attempt."""
    job = a_job(deadline_at=deadline_at, attempts=attempts)
    job.counted_attempts = counted
    policy = more.pop("policy", RetryPolicy())
    verdict, delay = decide(job, a_failure(kind, **more), circumstances, policy, 100.0, u)
    return verdict, delay, job.counted_attempts


@pytest.mark.parametrize("kind", FailureKind)
def test_what_may_succeed_later_is_tried_again(kind):
    """Kinds whose treatment is to retry are, the others fail at once."""
    assert after(kind)[0] is (Disposition.AGAIN if FAILURE_POLICIES[kind].retry else Disposition.FAILED)


@pytest.mark.parametrize("kind", [k for k in RETRIED if FAILURE_POLICIES[k].counts])
def test_attempts_that_count_run_out(kind):
    """The sixth attempt that counts is the last."""
    assert after(kind, attempts=5, counted=4)[::2] == (Disposition.AGAIN, 5)
    assert after(kind, attempts=6, counted=5)[::2] == (Disposition.FAILED, 6)
    assert after(kind, policy=RetryPolicy(max_attempts=1))[0] is Disposition.FAILED


@pytest.mark.parametrize("kind", [k for k in RETRIED if not FAILURE_POLICIES[k].counts])
def test_being_told_to_wait_never_runs_out(kind):
    """Quota and overload say nothing about the request, however often they are met."""
    assert after(kind, attempts=1_000, counted=5)[::2] == (Disposition.AGAIN, 5)
    assert after(kind, policy=RetryPolicy(max_attempts=1))[::2] == (Disposition.AGAIN, 0)


CHARGED = [FailureKind.TIMEOUT, FailureKind.DROPPED, FailureKind.TRUNCATED, FailureKind.GARBLED]


@pytest.mark.parametrize("kind", [kind for kind in RETRIED if kind not in CHARGED])
def test_while_nothing_gets_through_no_attempt_counts(kind):
    """During an outage failing says little about the request."""
    assert after(kind, NOBODY_GETS_THROUGH, attempts=20, counted=5)[::2] == (Disposition.AGAIN, 5)


@pytest.mark.parametrize("kind", CHARGED)
def test_what_may_have_been_charged_counts_always(kind):
    """An answer that was produced and not heard is paid for, outage or not."""
    assert after(kind, NOBODY_GETS_THROUGH, attempts=20, counted=5)[::2] == (Disposition.FAILED, 6)


def test_a_request_that_is_its_own_outage_is_given_up():
    """After five times the attempts it may have been what opened the breaker; an overloaded API is not."""
    assert after(FailureKind.SERVER, NOBODY_GETS_THROUGH, attempts=30)[0] is Disposition.FAILED
    assert after(FailureKind.SERVER, NOBODY_GETS_THROUGH, attempts=29)[0] is Disposition.AGAIN
    assert after(FailureKind.OVERLOADED, NOBODY_GETS_THROUGH, attempts=500)[0] is Disposition.AGAIN
    assert after(FailureKind.QUOTA, NOBODY_GETS_THROUGH, attempts=500)[0] is Disposition.AGAIN


@pytest.mark.parametrize("circumstances", [NOBODY_HOME, NOBODY_HOME_AND_OPEN])
def test_an_api_that_never_answered_is_given_up_on_soon(circumstances):
    """A wrong address is not worth six attempts, and the open breaker does not hide it."""
    last = FIRST_ATTEMPTS - 1
    assert (
        after(FailureKind.UNREACHABLE, circumstances, attempts=last, counted=last - 1)[0] is Disposition.AGAIN
    )
    assert (
        after(FailureKind.UNREACHABLE, circumstances, attempts=last + 1, counted=last)[0]
        is Disposition.FAILED
    )
    assert after(FailureKind.DROPPED, NOBODY_HOME, attempts=last + 1, counted=last)[0] is Disposition.AGAIN
    one = RetryPolicy(max_attempts=1)
    assert after(FailureKind.UNREACHABLE, circumstances, policy=one)[0] is Disposition.FAILED


@pytest.mark.parametrize("kind", [FailureKind.QUOTA, FailureKind.RAMP])
def test_quota_is_waited_for_at_the_pool_and_not_by_the_job(kind):
    """The closed pool holds everybody, so the job goes straight back to its place."""
    assert after(kind, retry_after=30.0) == (Disposition.AGAIN, 0.0, 0)


def test_the_first_dropped_connection_is_tried_again_at_once():
    """A kept-alive connection that the other side has closed; the second time it is something else."""
    assert after(FailureKind.DROPPED, attempts=1)[1] == 0.0
    assert after(FailureKind.DROPPED, attempts=2)[1] > 0.0


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from([k for k in RETRIED if k not in (FailureKind.QUOTA, FailureKind.RAMP)]),
    hint=st.one_of(st.none(), st.floats(0.001, 1e5)),
    attempts=st.integers(2, 5),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_the_policys_and_never_undercuts_the_hint(kind, hint, attempts, u):
    """Retry k waits as the policy says for k retries before it, and at least as long as it was told."""
    delay = after(kind, attempts=attempts, u=u, retry_after=hint)[1]
    assert delay == RetryPolicy().delay(attempts - 1, u, retry_after=hint)
    assert delay >= (hint or 0.0)


@pytest.mark.parametrize("kind", RETRIED)
def test_the_api_may_say_not_to(kind):
    """`x-should-retry: false` is obeyed, except where quota is all that is missing."""
    waits = kind in (FailureKind.QUOTA, FailureKind.RAMP)
    assert after(kind, should_retry=False)[0] is (Disposition.AGAIN if waits else Disposition.FAILED)
    assert after(kind, should_retry=True)[0] is Disposition.AGAIN


@pytest.mark.parametrize("kind", [k for k in FailureKind if k not in RETRIED])
def test_the_api_cannot_say_to_repeat_what_cannot_succeed(kind):
    """`x-should-retry: true` on a bad request changes nothing."""
    assert after(kind, should_retry=True)[0] is Disposition.FAILED


@pytest.mark.parametrize("kind", FailureKind)
def test_nothing_is_retried_while_it_is_torn_down(kind):
    """A closed executor gives up on everything."""
    assert after(kind, TEARDOWN)[0] is Disposition.FAILED


@pytest.mark.parametrize("kind", [FailureKind.QUOTA, FailureKind.RAMP])
def test_what_can_never_fit_is_too_large(kind):
    """Refused by a bucket that was full: waiting would not help."""
    assert after(kind, NEVER_FITS)[0] is Disposition.TOO_LARGE


@pytest.mark.parametrize(
    ("deadline_at", "verdict"),
    [(111.0, Disposition.AGAIN), (110.0, Disposition.TOO_LATE), (99.0, Disposition.TOO_LATE)],
)
def test_what_would_come_too_late_is_given_up_at_once(deadline_at, verdict):
    """The next attempt must be able to start before the deadline."""
    assert after(FailureKind.OVERLOADED, retry_after=10.0, u=0.0, deadline_at=deadline_at)[0] is verdict


def test_a_failure_for_good_is_not_called_late():
    """A bad request past its deadline is a bad request."""
    assert after(FailureKind.INVALID, deadline_at=50.0)[0] is Disposition.FAILED


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_reaches_as_far_as_its_kind(kind):
    """The scope is the treatment's, but for an API nobody ever reached."""
    assert scope_of(a_failure(kind), reached=True, answered=False) is FAILURE_POLICIES[kind].scope
    never = Scope.EVERYTHING if kind is FailureKind.UNREACHABLE else FAILURE_POLICIES[kind].scope
    assert scope_of(a_failure(kind), reached=False, answered=False) is never


@pytest.mark.parametrize("kind", [FailureKind.NOT_FOUND, FailureKind.PERMISSION])
def test_what_one_request_names_in_vain_is_no_other_request_s_business(kind):
    """A model that has answered is there, and may be used: it is a file, or a field, of this one request."""
    assert scope_of(a_failure(kind), reached=True, answered=True) is Scope.REQUEST


def test_a_closed_pool_that_opens_after_the_deadline_is_too_late():
    """Waiting for it would end in the same refusal, only later."""
    job = a_job(attempts=1, deadline_at=10.0)
    closed = replace(CALM, opens_at=60.0)
    assert (
        decide(job, a_failure(FailureKind.QUOTA), closed, RetryPolicy(), 0.0, 0.5)[0] is Disposition.TOO_LATE
    )
    assert decide(job, a_failure(FailureKind.QUOTA), CALM, RetryPolicy(), 0.0, 0.5)[0] is Disposition.AGAIN
