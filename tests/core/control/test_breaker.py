"""The circuit breaker's table of states, and everything that might wedge it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from claude_executor.core.control.breaker import JITTER, WINDOW, BreakerPolicy, BreakerState, CircuitBreaker

POLICY = BreakerPolicy(streak=3, ratio=0.5, volume=10, pause=2.0, max_pause=60.0)


def breaker_in(state, *, probing=False):
    """A breaker in a state, at second 100; what failed was sent just before."""
    breaker = CircuitBreaker(POLICY)
    if state is not BreakerState.CLOSED:
        for _ in range(POLICY.streak):
            breaker.on_failure(97.9, 98.0, 0.0, probe=False)
    if state is BreakerState.HALF_OPEN:
        assert breaker.admits_at(100.0) == 100.0
        if probing:
            assert breaker.on_start()
    assert breaker.state is state
    return breaker


@pytest.mark.parametrize(
    ("state", "probing", "event", "after", "changed"),
    [
        (BreakerState.CLOSED, False, "success", BreakerState.CLOSED, False),
        (BreakerState.CLOSED, False, "failure", BreakerState.CLOSED, False),
        (BreakerState.CLOSED, False, "last failure", BreakerState.OPEN, True),
        (BreakerState.OPEN, False, "success", BreakerState.OPEN, False),  # an answer from before says nothing
        (BreakerState.OPEN, False, "failure", BreakerState.OPEN, False),
        (BreakerState.OPEN, False, "pause over", BreakerState.HALF_OPEN, False),
        (BreakerState.HALF_OPEN, True, "success", BreakerState.HALF_OPEN, False),
        (BreakerState.HALF_OPEN, True, "failure", BreakerState.HALF_OPEN, False),
        (BreakerState.HALF_OPEN, True, "probe succeeds", BreakerState.CLOSED, True),
        (BreakerState.HALF_OPEN, True, "probe fails", BreakerState.OPEN, True),
        (BreakerState.HALF_OPEN, True, "probe lost", BreakerState.HALF_OPEN, False),
    ],
)
def test_the_table_of_states(state, probing, event, after, changed):
    """Each event in each state leads where the table says, and says whether anything changed."""
    breaker = breaker_in(state, probing=probing)
    if event == "last failure":
        for _ in range(POLICY.streak - 1):
            breaker.on_failure(99.0, 99.5, 0.0, probe=False)
        event = "failure"
    said = False
    if event == "success":
        said = breaker.on_success(90.0, 99.0, probe=False)
    elif event == "failure":
        said = breaker.on_failure(90.0, 99.0, 0.0, probe=False)
    elif event == "pause over":
        breaker.admits_at(100.0)
    elif event == "probe succeeds":
        said = breaker.on_success(100.0, 101.0, probe=True)
    elif event == "probe fails":
        said = breaker.on_failure(100.0, 101.0, 0.0, probe=True)
    else:
        breaker.on_probe_abandoned()
    assert breaker.state is after
    assert said is changed


def test_closed_admits_at_once_and_names_no_probe():
    """The ordinary state stands in nobody's way."""
    breaker = breaker_in(BreakerState.CLOSED)
    assert breaker.admits_at(5.0) == 5.0
    assert not breaker.on_start()


def test_open_admits_when_the_pause_is_over():
    """Until then it names that instant, and then lets one through."""
    breaker = breaker_in(BreakerState.OPEN)
    assert breaker.admits_at(98.0) == 100.0
    assert breaker.admits_at(99.999) == 100.0
    assert breaker.state is BreakerState.OPEN
    assert breaker.admits_at(100.0) == 100.0


def test_one_probe_at_a_time():
    """While a probe is out nobody knows when: only it can tell."""
    breaker = breaker_in(BreakerState.HALF_OPEN, probing=True)
    assert breaker.admits_at(100.0) is None
    assert breaker.admits_at(1e9) is None


def test_a_lost_probe_makes_room_for_the_next():
    """Cancelled, refused for quota, invalid: the place is free again at once."""
    breaker = breaker_in(BreakerState.HALF_OPEN, probing=True)
    for _ in range(5):
        breaker.on_probe_abandoned()
        assert breaker.admits_at(101.0) == 101.0
        assert breaker.on_start()
        assert breaker.admits_at(101.0) is None


def test_a_probe_that_fails_pauses_again_and_the_next_may_succeed():
    """Through several failing probes to the end of the outage."""
    breaker = breaker_in(BreakerState.HALF_OPEN)
    now = 100.0
    for _ in range(4):
        now = breaker.admits_at(now)
        assert breaker.admits_at(now) == now
        assert breaker.on_start()
        now += 0.5
        assert breaker.on_failure(now - 0.5, now, 0.5, probe=True)
        assert breaker.admits_at(now) > now
    now = breaker.admits_at(now)
    breaker.admits_at(now)
    assert breaker.on_start()
    assert breaker.on_success(now, now + 1.0, probe=True)
    assert breaker.state is BreakerState.CLOSED


def test_closing_forgets_the_failures():
    """After an outage it takes as many failures as ever to open it again."""
    breaker = breaker_in(BreakerState.HALF_OPEN, probing=True)
    breaker.on_success(100.0, 101.0, probe=True)
    for _ in range(POLICY.streak - 1):
        assert not breaker.on_failure(102.0, 103.0, 0.0, probe=False)
    assert breaker.on_failure(102.0, 103.0, 0.0, probe=False)


def test_closing_forgets_the_share_of_failures_too():
    """Old failures in the window do not open it at the first new one."""
    breaker = CircuitBreaker(BreakerPolicy(streak=99, ratio=0.5, volume=10, pause=1.0))
    for _ in range(10):
        breaker.on_failure(0.0, 0.0, 0.0, probe=False)
    assert breaker.state is BreakerState.OPEN
    breaker.admits_at(2.0)
    breaker.on_start()
    breaker.on_success(2.0, 3.0, probe=True)
    for _ in range(9):
        assert not breaker.on_failure(3.0, 4.0, 0.0, probe=False)
    assert breaker.on_failure(3.0, 4.0, 0.0, probe=False)


@pytest.mark.parametrize(
    ("sent_at", "broken"), [(9.0, False), (10.0, False), (10.1, True), (50.0, True)], ids=str
)
def test_only_a_success_sent_after_the_streak_began_breaks_it(sent_at, broken):
    """An answer to a request from before the trouble says nothing about now."""
    breaker = CircuitBreaker(POLICY)
    breaker.on_failure(10.0, 11.0, 0.0, probe=False)
    breaker.on_failure(10.5, 12.0, 0.0, probe=False)
    breaker.on_success(sent_at, 60.0, probe=False)
    assert breaker.on_failure(60.0, 61.0, 0.0, probe=False) is not broken


def test_a_broken_streak_starts_from_nothing():
    """The next streak has its own beginning."""
    breaker = CircuitBreaker(POLICY)
    breaker.on_failure(10.0, 11.0, 0.0, probe=False)
    breaker.on_failure(10.0, 11.0, 0.0, probe=False)
    breaker.on_success(12.0, 13.0, probe=False)
    breaker.on_failure(20.0, 21.0, 0.0, probe=False)
    breaker.on_failure(20.0, 21.0, 0.0, probe=False)
    breaker.on_success(15.0, 22.0, probe=False)  # sent between the two streaks
    assert breaker.on_failure(20.0, 23.0, 0.0, probe=False)


@pytest.mark.parametrize(("sent", "opens"), [(0, True), (5, True), (6, True), (7, False), (100, False)])
def test_a_streak_among_many_that_are_still_out_may_be_bad_luck(sent, opens):
    """It must be most of what was sent since it began: of a hundred in flight three may well fail first."""
    breaker = CircuitBreaker(POLICY)
    breaker.on_failure(10.0, 11.0, 0.0, probe=False)
    for _ in range(sent):
        breaker.on_start()
    breaker.on_failure(10.0, 12.0, 0.0, probe=False)
    assert breaker.on_failure(10.0, 12.0, 0.0, probe=False) is opens


def mixed(failures, successes, *, policy, seconds=1.0):
    """Failures that are never a streak: a success sent later follows each."""
    breaker, now = CircuitBreaker(policy), 0.0
    opened = False
    for number in range(max(failures, successes)):
        if number < successes:
            breaker.on_success(now, now, probe=False)
        if number < failures:
            opened = breaker.on_failure(now, now, 0.0, probe=False) or opened
        now += seconds / max(failures, successes)
    return opened


@pytest.mark.parametrize(
    ("failures", "successes", "opens"),
    [(5, 5, True), (4, 6, False), (4, 5, False), (3, 9, False), (11, 11, True), (50, 50, True)],
)
def test_a_share_of_failures_opens_it_from_a_certain_volume_on(failures, successes, opens):
    """Half of ten calls is enough, fewer calls or a smaller share is not."""
    policy = BreakerPolicy(streak=10**6, ratio=0.5, volume=10)
    assert mixed(failures, successes, policy=policy) is opens


def test_it_opens_at_the_failure_that_makes_it_half():
    """After twenty successes the twentieth failure, not the first."""
    breaker = CircuitBreaker(BreakerPolicy(streak=10**6, ratio=0.5, volume=10))
    for _ in range(20):
        breaker.on_success(0.0, 5.0, probe=False)
    assert [breaker.on_failure(0.0, 5.0, 0.0, probe=False) for _ in range(20)] == [False] * 19 + [True]


def test_old_failures_leave_the_window_with_their_calls():
    """What failed long ago is not held against the calls of now."""
    breaker = CircuitBreaker(BreakerPolicy(streak=10**6, ratio=0.5, volume=10))
    for _ in range(9):
        breaker.on_failure(0.0, 0.0, 0.0, probe=False)
    for _ in range(11):
        breaker.on_success(WINDOW + 5.0, WINDOW + 5.0, probe=False)
    assert [breaker.on_failure(0.0, WINDOW + 5.0, 0.0, probe=False) for _ in range(11)] == [False] * 10 + [
        True
    ]


def test_old_calls_leave_the_window():
    """Failures from more than half a minute ago do not add up with those of now."""
    policy = BreakerPolicy(streak=10**6, ratio=0.5, volume=10)
    breaker = CircuitBreaker(policy)
    for _ in range(9):
        breaker.on_failure(0.0, 0.0, 0.0, probe=False)
    assert not breaker.on_failure(0.0, WINDOW + 1.5, 0.0, probe=False)
    for _ in range(8):
        assert not breaker.on_failure(0.0, WINDOW + 2.0, 0.0, probe=False)
    assert breaker.on_failure(0.0, WINDOW + 2.0, 0.0, probe=False)


def test_calls_within_the_window_add_up():
    """The window is as long as it says."""
    breaker = CircuitBreaker(BreakerPolicy(streak=10**6, ratio=0.5, volume=10))
    for _ in range(9):
        breaker.on_failure(0.0, 0.5, 0.0, probe=False)
    assert breaker.on_failure(0.0, WINDOW - 0.1, 0.0, probe=False)


def test_a_backward_clock_does_no_harm():
    """Calls noted out of order are counted all the same."""
    breaker = CircuitBreaker(BreakerPolicy(streak=10**6, ratio=0.5, volume=10))
    for second in range(9):
        breaker.on_failure(0.0, 20.0 - second, 0.0, probe=False)
    assert breaker.on_failure(0.0, 12.0, 0.0, probe=False)


def test_the_pause_grows_with_the_trouble_and_no_further_than_its_bound():
    """At least the shortest, a fifth of the time the trouble has lasted, at most the longest."""
    breaker = CircuitBreaker(POLICY)
    for _ in range(3):
        breaker.on_failure(0.0, 0.0, 0.0, probe=False)
    now, pauses = 0.0, [breaker.opens_at]
    while now < 3_600.0:
        now = breaker.opens_at
        breaker.admits_at(now)
        breaker.on_start()
        breaker.on_failure(now, now, 0.0, probe=True)
        pauses.append(breaker.opens_at - now)
        assert pauses[-1] == pytest.approx(min(60.0, max(2.0, 0.2 * now)))
    assert pauses[0] == 2.0
    assert all(later >= pause - 1e-6 for pause, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(60.0)
    assert len(pauses) < 90  # an hour's outage costs few probes


def test_new_trouble_begins_with_a_short_pause():
    """Having been closed in between, the breaker counts the trouble from its new beginning."""
    breaker = breaker_in(BreakerState.HALF_OPEN, probing=True)
    breaker.on_success(100.0, 101.0, probe=True)
    for _ in range(3):
        breaker.on_failure(5_000.0, 5_000.0, 0.0, probe=False)
    assert breaker.opens_at == 5_002.0


@settings(max_examples=80, deadline=None)
@given(hint=st.one_of(st.none(), st.floats(0, 1e5)), u=st.floats(0, 1, exclude_max=True))
def test_the_pause_is_never_shorter_than_the_api_asked_and_jitter_is_only_added(hint, u):
    """`retry-after` on an overload answer is a lower bound, also beyond the longest pause."""
    breaker = CircuitBreaker(BreakerPolicy(streak=1, pause=2.0))
    breaker.on_failure(0.0, 100.0, u, probe=False, retry_after=hint)
    least = max(2.0, hint or 0.0)
    assert 100.0 + least <= breaker.opens_at <= 100.0 + least * (1 + JITTER) + 1e-9


def test_the_repr_tells_the_state():
    """State and the counts behind it."""
    breaker = CircuitBreaker(POLICY)
    breaker.on_success(0.0, 0.0, probe=False)
    breaker.on_failure(0.0, 0.0, 0.0, probe=False)
    assert repr(breaker) == "<CircuitBreaker closed, 1/2 failed>"


class AnyTraffic(RuleBasedStateMachine):
    """Requests start, end in every way and out of order; the breaker is never wedged."""

    @initialize()
    def begin(self):
        self.breaker = CircuitBreaker(POLICY)
        self.now = 0.0
        self.flight = []

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def start(self):
        at = self.breaker.admits_at(self.now)
        if at is not None and at <= self.now:
            self.flight.append((self.now, self.breaker.on_start()))

    @precondition(lambda self: self.flight)
    @rule(which=st.integers(0), how=st.sampled_from(["success", "failure", "lost"]), u=st.floats(0, 0.99))
    def end(self, which, how, u):
        sent_at, probe = self.flight.pop(which % len(self.flight))
        state = self.breaker.state
        if how == "success":
            self.breaker.on_success(sent_at, self.now, probe=probe)
        elif how == "failure":
            self.breaker.on_failure(sent_at, self.now, u, probe=probe)
        elif probe:
            self.breaker.on_probe_abandoned()
        if state is BreakerState.HALF_OPEN and not probe:
            assert self.breaker.state is BreakerState.HALF_OPEN  # only the probe can tell

    @invariant()
    def at_most_one_probe_is_out_and_only_it_closes_the_door(self):
        probes = sum(probe for _, probe in self.flight)
        assert probes <= 1
        at = self.breaker.admits_at(self.now)
        assert (at is None) is (probes == 1)
        if at is not None:
            assert at <= self.now + POLICY.max_pause * (1 + JITTER)


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_no_probe_goes_before_the_longest_wait_that_was_asked_for():
    """Also if it was not the last failure that asked for it."""
    breaker = CircuitBreaker(BreakerPolicy(streak=2, pause=1.0))
    breaker.on_failure(0.0, 1.0, 0.0, probe=False, retry_after=30.0)
    assert breaker.on_failure(0.0, 2.0, 0.0, probe=False)
    assert breaker.opens_at == 31.0
