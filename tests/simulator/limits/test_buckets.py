"""What buckets, pools and the limit on growth let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_executor.simulator import Neighbours, Ramp, Rates, Settings
from claude_executor.simulator.limits.buckets import LimitBucket, retry_after_seconds
from claude_executor.simulator.limits.pools import Admission, LimitPool, Shortage
from claude_executor.simulator.world.ramp import RampState


@given(
    per_minute=st.integers(1, 5_000),
    seconds=st.floats(0.1, 90),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_no_window_admits_more_than_capacity_and_refill(per_minute, seconds, gaps):
    """However requests come in, no window of w seconds admits more than capacity + rate * w."""
    bucket = LimitBucket(per_minute, seconds, 0.0)
    now, admitted = 0.0, []
    for gap in gaps:
        now += gap
        for _ in range(3):
            if bucket.holds(1, now):
                bucket.take(1, now)
                admitted.append(now)
    for first, begun in enumerate(admitted):
        for last in range(first, len(admitted)):
            window = admitted[last] - begun
            assert last - first + 1 <= bucket.capacity + bucket.per_second * window + 1e-3


@given(waits=st.lists(st.floats(0.001, 30), min_size=1, max_size=50), need=st.floats(1, 60))
def test_waiting_as_long_as_told_is_enough(waits, need):
    """Whoever waits for the quoted whole seconds finds what it needs."""
    bucket, now = LimitBucket(60, 60, 0.0), 0.0
    for wait in waits:
        now += wait
        bucket.take(wait * 7, now)
        now += retry_after_seconds(bucket.wait(need, now))
        assert bucket.holds(need, now)


def test_refill_is_continuous_and_ends_at_the_capacity():
    """A level rises by the limit's rate and stops at burst seconds' worth."""
    bucket = LimitBucket(60, 30, 100.0)
    assert bucket.capacity == 30
    bucket.take(20, 100.0)
    assert bucket.level(100.0) == 10
    assert bucket.level(105.5) == pytest.approx(15.5)
    assert bucket.level(1_000.0) == 30
    assert bucket.full_in(1_000.0) == 0


def test_a_backward_clock_makes_no_tokens():
    """Time that steps back and forth again refills only once."""
    bucket = LimitBucket(60, 60, 0.0)
    bucket.take(60, 10.0)
    assert bucket.level(5.0) == 0
    assert bucket.level(10.0) == 0
    assert bucket.level(11.0) == pytest.approx(1)


def test_output_flows_out_while_it_is_generated():
    """Two answers under way drain the bucket evenly; what a late timer let out is put back."""
    bucket = LimitBucket(60, 60, 0.0)
    one, two = bucket.begin(100, 10, 0.0), bucket.begin(50, 10, 0.0)
    assert bucket.level(2.0) == pytest.approx(60 + 2 - 20 - 10)
    assert bucket.end(two, 5.0) == pytest.approx(25)
    assert bucket.end(one, 12.0) == pytest.approx(100)
    assert bucket.level(12.0) == pytest.approx(60 + 12 - 100 - 25)
    assert bucket.lowest < 0


@pytest.mark.parametrize("seconds", [1e-3, 1e-6])
def test_no_answer_drains_more_than_its_tokens_however_fast(seconds):
    """Between a very fast answer's end and the timer that notices it, nothing more leaves the bucket."""
    ours = pool(Rates(None, None, 60_000))
    grant = ours.admit(1, 1, 0.0)
    ours.begin_output(grant, 100, seconds, 0.0)
    assert ours.output_tokens.level(0.05) == pytest.approx(60_000 - 100 + 50)
    assert ours.end(grant, 0.06) == 100
    assert ours.output_tokens.lowest == pytest.approx(60_000 - 100, abs=2)


@given(
    answers=st.lists(
        st.tuples(st.floats(0, 10), st.floats(1, 500), st.floats(0.001, 20), st.floats(0, 30)), max_size=20
    )
)
def test_what_leaves_the_bucket_is_what_the_answers_say(answers):
    """Answers that begin, overlap and are ended early or late take just what each of them produced."""
    bucket = LimitBucket(60, 1e6, 0.0)
    bucket.take(500_000, 0.0)
    running, produced = {}, 0.0
    moments = [(begun, number, "begin") for number, (begun, *_) in enumerate(answers)]
    moments += [(begun + after, number, "end") for number, (begun, _, _, after) in enumerate(answers)]
    for at, number, what in sorted(moments, key=lambda moment: (moment[0], moment[2])):
        if what == "begin":
            running[number] = bucket.begin(answers[number][1], answers[number][2], at)
        else:
            produced += bucket.end(running[number], at)
    assert bucket.level(100.0) == pytest.approx(500_000 + 100 - produced)


def test_a_new_rate_counts_from_now_on():
    """What was refilled before a change was refilled at the old rate, and a smaller capacity clips."""
    bucket = LimitBucket(60, 60, 0.0)
    bucket.take(60, 0.0)
    bucket.change(600, 60, 10.0)
    assert bucket.level(10.0) == pytest.approx(10)
    assert bucket.level(11.0) == pytest.approx(20)
    bucket.change(6, 60, 60.0)
    assert bucket.level(60.0) == 6


def test_neighbours_slow_the_refill_but_not_the_quoted_wait():
    """Others in the organisation take their part of the refill; the API quotes waits as if they did not."""
    bucket = LimitBucket(60, 60, 0.0)
    bucket.take(60, 0.0)
    bucket.neighbours = 0.75
    assert bucket.level(20.0) == pytest.approx(5)
    assert bucket.wait(10, 20.0) == pytest.approx(5)


def pool(rates: Rates, **settings) -> LimitPool:
    """A pool at time zero."""
    return LimitPool("haiku-5.5", rates, Settings(**settings), 0.0)


def test_a_request_short_of_tokens_takes_no_request():
    """A 429 on tokens leaves the request bucket as it was."""
    ours = pool(Rates(10, 600, 600))
    assert isinstance(ours.admit(600, 100, 0.0), Admission)
    short = ours.admit(60, 100, 0.0)
    assert short == Shortage("input_tokens", "input_tokens", 600, 6)
    assert ours.requests.level(0.0) == 9


def test_the_longest_wait_is_the_one_that_is_told():
    """When several buckets are short, the refusal names the one that takes longest."""
    ours = pool(Rates(1, 600, 600))
    ours.admit(590, 1, 0.0)
    assert ours.admit(20, 1, 0.0) == Shortage("requests", "requests", 1, 60)
    theirs = pool(Rates(60, 60, 600), burst=60)
    theirs.admit(60, 1, 0.0)
    theirs.requests.take(60, 0.0)
    assert theirs.admit(20, 1, 0.0) == Shortage("input_tokens", "input_tokens", 60, 20)


def test_output_in_debt_admits_nobody():
    """An empty output bucket refuses, whatever max_tokens is; one token above zero admits."""
    ours = pool(Rates(100, 10_000, 60))
    grant = ours.admit(1, 1_000_000, 0.0)
    ours.begin_output(grant, 65, 0, 0.0)
    assert ours.admit(1, 1, 0.0) == Shortage("output_tokens", "output_tokens", 60, 6)
    assert isinstance(ours.admit(1, 1, 5.0), Shortage)
    assert isinstance(ours.admit(1, 1, 5.01), Admission)


def test_the_estimate_is_corrected_into_debt():
    """Input is settled to the truth when the answer begins, below zero if need be."""
    ours = pool(Rates(None, 600, None))
    grant = ours.admit(500, 1, 0.0)
    ours.correct_input(grant, 800, 0.0)
    assert ours.input_tokens.level(0.0) == -200
    ours.give_back(grant, 0.0)
    assert ours.input_tokens.level(0.0) == 600


@pytest.mark.parametrize("oversized", ["when-full", "never"])
def test_a_request_larger_than_the_bucket(oversized):
    """It goes when the bucket is full and leaves a debt, or it never goes."""
    ours = pool(Rates(None, 600, None), oversized=oversized)
    found = ours.admit(1_000, 1, 0.0)
    if oversized == "never":
        assert isinstance(found, Shortage)
        return
    assert isinstance(found, Admission)
    assert ours.admit(1_000, 1, 50.0).retry_after == 50
    assert isinstance(ours.admit(1_000, 1, 100.0), Admission)


def test_reserving_max_tokens_takes_them_and_gives_the_rest_back():
    """Under the old rule max_tokens is taken at the start and the unused part returned at the end."""
    ours = pool(Rates(None, None, 600), reserve_max_tokens=True)
    grant = ours.admit(1, 500, 0.0)
    assert isinstance(ours.admit(1, 500, 0.0), Shortage)
    ours.begin_output(grant, 40, 1.0, 0.0)
    assert ours.end(grant, 1.0) == 40
    assert ours.end(grant, 1.0) == 40
    assert ours.output_tokens.level(1.0) == pytest.approx(600 - 500 + 10 + 460)


def test_the_hidden_window_refuses_while_the_shown_bucket_is_full_enough():
    """The strict profile lets one second's worth of requests through at once, and no header says so."""
    ours = LimitPool("haiku-5.5", Rates(120), Settings.strict(), 0.0)
    assert isinstance(ours.admit(1, 1, 0.0), Admission)
    assert isinstance(ours.admit(1, 1, 0.0), Admission)
    assert ours.admit(1, 1, 0.0) == Shortage("requests", "window", 120, 1)
    assert ours.requests.level(0.0) == 118
    assert isinstance(ours.admit(1, 1, 0.5), Admission)


def test_limits_may_be_replaced_while_an_answer_runs():
    """An answer settles on the bucket that it began with, even if that is gone."""
    ours = pool(Rates(None, None, 600))
    grant = ours.admit(1, 1, 0.0)
    ours.begin_output(grant, 100, 10, 0.0)
    ours.change(Rates(), Neighbours(), 5.0)
    ours.change(Rates(None, None, 60), Neighbours(), 6.0)
    assert ours.end(grant, 10.0) == 100
    assert ours.output_tokens.level(10.0) == 60


def test_the_climb_follows_the_messages_seen_in_the_field():
    """25,000 in the first minute, 95,000 in the next; idle minutes lead back to the floor."""
    climb, ramp = RampState(), Ramp(25_000, 70_000)
    assert climb.check(1_000_000, ramp, 540.0) is None
    assert climb.check(20_000, ramp, 600.0) is None
    climb.use(20_000)
    steep = climb.check(10_000, ramp, 615.5)
    assert (steep.current, steep.following, steep.wait) == (25_000, 95_000, 44.5)
    assert climb.check(90_000, ramp, 660.0) is None
    climb.use(90_000)
    assert climb.check(10_000, ramp, 700.0).current == 95_000
    assert climb.check(1, ramp, 1_200.0) is None
    climb.use(25_000)
    assert climb.check(1, ramp, 1_201.0).current == 25_000
