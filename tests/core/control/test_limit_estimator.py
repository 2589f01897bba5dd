"""What is believed about one limited resource, and what headers make of it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.control.limit_estimator import (
    MAX_FOREIGN_SHARE,
    RAISE_SHARE,
    ROUNDING,
    LevelRange,
    LimitEstimator,
)
from claude_executor.core.model.cost import Resource
from claude_executor.core.model.headers import LimitQuote

LIMIT = 6_000_000.0  # 100,000 a second
RATE = LIMIT / 60.0


def a_meter(resource=Resource.INPUT, declared=LIMIT, *, burst=None, level=None, announced=LIMIT):
    """A meter at second 0 that has heard once, and been confirmed; its bucket at `level`."""
    meter = LimitEstimator(resource, declared, burst=burst, now=0.0)
    if announced is not None:
        full = meter.bucket.capacity if meter.bucket is not None else announced
        meter.observe(LimitQuote(announced, full, None), LevelRange(0.0, full, full, 0.0, 0.0), 0.0)
    if level is not None:
        meter.bucket.correct(level, 0.0)
    return meter


def hear(
    meter,
    remaining,
    now=0.0,
    *,
    limit=LIMIT,
    believed=None,
    full_in=None,
    unsure=0.0,
    unsettled=0.0,
    sent_at=None,
):
    """By how much the level changes at this news; the belief is the level unless told otherwise."""
    level = meter.bucket.level(now)
    lowest, highest = believed or (level, level)
    sent_at = now if sent_at is None else sent_at
    meter.observe(
        LimitQuote(limit, remaining, full_in), LevelRange(sent_at, lowest, highest, unsure, unsettled), now
    )
    return meter.bucket.level(now) - level


def test_what_is_not_known_limits_nothing():
    """Neither told nor announced: no bucket, no limit, an infinite rate."""
    meter = LimitEstimator(Resource.INPUT, None, burst=None, now=0.0)
    assert (meter.bucket, meter.limit, meter.source) == (None, None, "not known")
    assert (meter.rate, meter.rounding) == (math.inf, 0.0)


@pytest.mark.parametrize(
    ("declared", "announced", "limit", "source"),
    [
        (600, None, 600, "declared"),
        (None, 600, 600, "response headers"),
        (600, 1_200, 600, "declared"),
        (1_200, 600, 600, "response headers"),
        (600, 600, 600, "declared"),
    ],
)
def test_the_smaller_of_what_is_told_and_announced_holds(declared, announced, limit, source):
    """And it is said where it comes from; the bucket holds a minute of it."""
    meter = a_meter(Resource.REQUESTS, declared, announced=announced)
    assert (meter.limit, meter.source) == (limit, source)
    assert meter.rate == limit / 60
    assert meter.bucket.capacity == limit


def test_a_bucket_that_is_only_announced_begins_with_what_is_left():
    """With no limits given the first answer tells, also that others have used most of it."""
    meter = LimitEstimator(Resource.INPUT, None, burst=None, now=0.0)
    meter.observe(LimitQuote(LIMIT, 90_000.0, None), LevelRange(0.0, 90_000.0, 90_000.0, 0.0, 0.0), 5.0)
    assert meter.bucket.level(5.0) == 90_000.0
    assert meter.foreign_rate == 0.0


def test_what_is_announced_afterwards_is_followed():
    """A limit changed in the middle of a run, down and up again."""
    meter = a_meter(declared=None)
    hear(meter, LIMIT / 2, limit=LIMIT / 2)
    assert (meter.limit, meter.bucket.capacity) == (LIMIT / 2, LIMIT / 2)
    hear(meter, LIMIT, limit=LIMIT)
    assert (meter.limit, meter.bucket.capacity) == (LIMIT, LIMIT)


def test_a_user_may_change_his_mind():
    """A new ceiling holds at once; without one the API's is in force again, or nothing is."""
    meter = a_meter()
    meter.set_declared(600.0, 10.0, 0.0)
    assert (meter.limit, meter.bucket.capacity) == (600.0, 100.0)
    meter.set_declared(None, None, 0.0)
    assert meter.limit == LIMIT
    meter = a_meter(announced=None)
    meter.set_declared(None, None, 0.0)
    assert meter.bucket is None


def test_a_burst_is_what_a_full_bucket_holds():
    """In seconds of refill; shortening never lengthens."""
    meter = a_meter(Resource.REQUESTS, 600.0, burst=10.0, announced=None)
    assert meter.bucket.capacity == 100.0
    meter.shorten_burst(5.0, 0.0)
    assert meter.bucket.capacity == 50.0
    meter.shorten_burst(20.0, 0.0)
    assert meter.bucket.capacity == 50.0


# ---- levels


def test_news_within_the_belief_is_no_news():
    """Between the lowest and highest level believed since sending, give or take the rounding."""
    meter = a_meter(level=2e6)
    for remaining in (1.5e6, 2e6, 1.5e6 - ROUNDING, 2e6 + ROUNDING):
        assert hear(meter, remaining, believed=(1.5e6, 2e6)) == 0.0


def test_less_than_believed_counts_at_once():
    """Somebody else has spent: the level falls by all that is missing below the belief."""
    meter = a_meter(level=2e6)
    assert hear(meter, 1e6, believed=(1.5e6, 2e6)) == pytest.approx(-(0.5e6 - ROUNDING))


def test_more_than_believed_counts_little_by_little():
    """Somebody has stopped spending: the level rises by a share of the surplus each time, and gets there."""
    meter = a_meter(level=2e6)
    assert hear(meter, 3e6, believed=(1.5e6, 2e6)) == pytest.approx(RAISE_SHARE * (1e6 - ROUNDING))
    for _ in range(40):
        hear(meter, 3e6)
    assert meter.bucket.level(0.0) == pytest.approx(3e6, abs=2 * ROUNDING)


def test_the_same_surplus_counts_once():
    """Answers to what was sent before the level was raised tell of the same surplus again."""
    meter = a_meter(level=2e6)
    assert hear(meter, 5e6, 10.0, sent_at=4.0) > 0.0
    for sent_at in (5.0, 9.0, 9.9):
        assert hear(meter, 6e6, 11.0, sent_at=sent_at) == 0.0
    assert hear(meter, 6e6, 12.0, sent_at=10.5) > 0.0


def test_what_open_estimates_could_explain_is_no_surplus():
    """As long as answers in flight may come out shorter than reserved, nobody need have stopped spending."""
    meter = a_meter(level=2e6)
    assert hear(meter, 2.5e6, unsettled=6e5) == 0.0
    assert hear(meter, 3e6, unsettled=6e5) == pytest.approx(RAISE_SHARE * (4e5 - ROUNDING))
    assert hear(meter, 1e6, 1.0, unsettled=6e5) < -1e6


def test_how_unsure_the_estimates_are_is_no_news_in_either_direction():
    """What answers in flight may or may not have drawn explains a difference of that size."""
    meter = a_meter(level=2e6)
    assert hear(meter, 1.9e6, unsure=1e5) == 0.0
    assert hear(meter, 2.1e6, unsure=1e5) == 0.0
    assert hear(meter, 1.8e6, unsure=1e5) < 0.0


def test_requests_are_counted_to_one():
    """They are not rounded to thousands: a few more or less are news."""
    meter = a_meter(Resource.REQUESTS, 600.0, level=300.0, announced=600.0)
    assert hear(meter, 300.0, limit=600.0) == 0.0
    assert hear(meter, 290.0, limit=600.0) == pytest.approx(-10.0, abs=1.0)
    level = meter.bucket.level(0.0)
    assert hear(meter, level + 50.0, limit=600.0) == pytest.approx(RAISE_SHARE * 50.0, abs=RAISE_SHARE)
    assert meter.rounding <= 1.0


def test_the_rounding_of_tokens_is_kept_in_reserve():
    """What may not be there is not spent; never more than a small share of a small bucket."""
    assert a_meter().rounding == ROUNDING
    assert 0.0 < a_meter(declared=None, announced=2_000.0).rounding <= 200.0
    assert a_meter(announced=None).rounding == 0.0


def test_where_ours_is_tighter_more_room_there_means_nothing():
    """A user's smaller ceiling is not filled up by the organisation's larger bucket."""
    meter = a_meter(declared=600_000.0, level=0.0)
    for second in range(1, 20):
        before = meter.bucket.level(float(second))
        assert hear(meter, 5e6, float(second)) == 0.0
        assert meter.bucket.level(float(second)) == before
    assert meter.foreign_rate == 0.0


def test_where_ours_is_tighter_less_room_there_still_counts():
    """The organisation's bucket may run out before ours."""
    meter = a_meter(declared=600_000.0, level=600_000.0)
    assert hear(meter, 100_000.0) == pytest.approx(-500_000.0 + ROUNDING)


@settings(max_examples=100, deadline=None)
@given(
    level=st.floats(-1e6, 6e6),
    width=st.floats(0, 2e6),
    remaining=st.floats(0, 6e6),
    slack=st.floats(0, 1e5),
    declared=st.sampled_from([None, 1e6, LIMIT, 2 * LIMIT]),
)
def test_a_correction_goes_towards_the_news_and_not_past_it(level, width, remaining, slack, declared):
    """Down only if it says less than believed, up only if more, and never beyond what it says."""
    meter = a_meter(declared=declared)
    meter.bucket.correct(level, 0.0)
    level = meter.bucket.level(0.0)
    change = hear(meter, remaining, 10.0, believed=(level - width, level), unsure=slack)
    if remaining < level - width:
        assert remaining - (level - width) - 1e-6 <= change <= 0.0
    elif remaining > level:
        assert -1e-6 <= change <= remaining - level + 1e-6
    else:
        assert change == 0.0


# ---- others


def shared(meter, others, *, seconds, server, ours=0.6, step=0.5, begun=0.0):
    """Use the limit together with others, both in shares of the rate; what is left at the server."""
    now = begun
    for _ in range(int(seconds / step)):
        now += step
        server = min(LIMIT, server + (1.0 - others - ours) * RATE * step)
        meter.bucket.take(ours * RATE * step, now)
        hear(meter, max(0.0, round(server, -3)), now)
    return server


@pytest.mark.parametrize("others", [0.1, 0.3, 0.4])
def test_what_others_draw_is_learned_and_taken_off(others):
    """A steady draw is found within a minute, and our own rate is what remains."""
    meter = a_meter(level=3e6)
    shared(meter, others, seconds=60, server=3e6)
    assert meter.foreign_rate / RATE == pytest.approx(others, abs=0.05)
    assert meter.rate / RATE == pytest.approx(1 - others, abs=0.05)


def test_when_others_stop_their_share_comes_back():
    """Not at once, but within minutes."""
    meter = a_meter(level=3e6)
    server = shared(meter, 0.4, seconds=60, server=3e6)
    shared(meter, 0.0, seconds=300, server=server, ours=1.0, begun=60.0)
    assert meter.foreign_rate / RATE < 0.1


def test_without_news_of_them_others_are_doubted():
    """What was learned of others fades where every answer is as we expect; only news keeps it."""
    meter = a_meter(level=5e6)
    for second in range(1, 6):
        hear(meter, meter.bucket.level(float(second)) - 50_000.0, float(second))
    learned = meter.foreign_rate
    assert learned > 0.0
    for second in range(6, 1_200):
        hear(meter, meter.bucket.level(float(second)), float(second))
    assert meter.foreign_rate < learned / 10
    assert meter.rate > 0.9 * RATE


def test_with_nobody_else_nothing_is_learned():
    """Rounding alone does not look like other people."""
    meter = a_meter(level=3e6)
    shared(meter, 0.0, seconds=60, server=3e6, ours=1.0)
    assert meter.foreign_rate == pytest.approx(0.0, abs=0.01 * RATE)


def test_others_never_leave_us_nothing():
    """However greedy they are, enough remains to go on asking."""
    meter = a_meter(level=3e6)
    for second in range(1, 300):
        hear(meter, 0.0, float(second), believed=(6e6, 6e6))
    assert meter.foreign_rate <= MAX_FOREIGN_SHARE * RATE
    assert meter.rate >= (1 - MAX_FOREIGN_SHARE) * RATE * 0.999


def test_two_answers_at_the_same_instant_are_no_rate():
    """Without time between them nothing can be said of a draw."""
    meter = a_meter(level=3e6)
    hear(meter, 2e6, 10.0)
    others = meter.foreign_rate
    hear(meter, 1e6, 10.0)
    assert meter.foreign_rate == others


# ---- capacity


def test_a_small_bucket_is_recognised_by_how_soon_it_is_full():
    """Empty, and full again in a second: it holds a second's worth, not a minute's."""
    meter = a_meter(level=3e6)
    hear(meter, 0.0, full_in=1.0)
    assert RATE <= meter.bucket.capacity <= 2.1 * RATE
    assert meter.bucket.level(0.0) <= meter.bucket.capacity


def test_a_full_minute_is_a_full_minute():
    """A bucket of the size assumed stays so, wherever its level is."""
    meter = a_meter()
    for level in (0.0, 1e6, 3e6, LIMIT):
        hear(meter, level, full_in=(LIMIT - level) / RATE)
    assert meter.bucket.capacity == LIMIT


def test_a_full_bucket_that_holds_less_is_smaller():
    """Full at this moment, and less in it than we thought: nobody has drawn on it, it is no larger."""
    meter = a_meter()
    meter.bucket.correct(LIMIT, 10.0)
    hear(meter, 2e6, 10.0, full_in=0.0)
    assert meter.bucket.capacity == pytest.approx(2e6, rel=0.11)
    assert meter.foreign_rate == 0.0


def test_an_overdrawn_bucket_does_not_look_larger():
    """`remaining` stops at zero in debt while the reset grows."""
    meter = a_meter()
    hear(meter, 0.0, full_in=1.0)
    small = meter.bucket.capacity
    hear(meter, 0.0, full_in=63.0)
    assert meter.bucket.capacity == small


def test_a_bucket_may_be_made_larger_again():
    """More left than we thought it could hold."""
    meter = a_meter()
    hear(meter, 0.0, full_in=1.0)
    hear(meter, 4e6, full_in=20.0)
    hear(meter, 4e6, full_in=20.0)
    assert meter.bucket.capacity > 4e6


def test_without_a_reset_nothing_is_learned_of_the_size():
    """No `Date` header, no span."""
    meter = a_meter()
    hear(meter, 0.0, full_in=None)
    assert meter.bucket.capacity == LIMIT


def test_the_size_of_requests_is_learned_to_a_few():
    """Sixty a minute enforced as one a second."""
    meter = a_meter(Resource.REQUESTS, 60.0, announced=60.0)
    hear(meter, 0.0, limit=60.0, full_in=1.0)
    assert 1.0 <= meter.bucket.capacity <= 3.0


# ---- others, or our own answers?


def test_answers_longer_than_estimated_are_neither_taken_twice_nor_put_down_to_others():
    """The server's bucket falls while they are produced; when they are here they own up to it."""
    meter = a_meter(Resource.OUTPUT, level=2_000_000)
    hear(meter, 1_900_000, believed=(2_000_000, 2_000_000), now=0.1)
    lowered, others = meter.bucket.level(0.1), meter.foreign_rate
    assert others > 0.0
    for _ in range(10):
        meter.settle(-10_000, 0.1)
    assert meter.bucket.level(0.1) == pytest.approx(lowered, abs=2 * ROUNDING)
    assert meter.foreign_rate == 0.0
    meter.settle(-10_000, 0.1)  # of this nothing has been seen yet
    assert meter.bucket.level(0.1) == pytest.approx(lowered - 10_000, abs=2 * ROUNDING)


def test_what_others_draw_stays_put_down_to_them():
    """Estimates that are right on average explain nothing, however far off each of them is."""
    meter = a_meter(Resource.OUTPUT, level=2_000_000)
    hear(meter, 1_900_000, now=0.1)
    level, others = meter.bucket.level(0.1), meter.foreign_rate
    for _ in range(100):
        meter.settle(-5_000, 0.1)
        meter.settle(5_000, 0.1)
    assert meter.bucket.level(0.1) == pytest.approx(level)
    assert meter.foreign_rate == pytest.approx(others, rel=0.01)


def test_an_empty_bucket_does_not_show_its_debt():
    """What it was lowered by then may not have been the whole: answers are taken in full."""
    meter = a_meter(Resource.OUTPUT, level=100_000)
    hear(meter, 0, now=0.1)
    level = meter.bucket.level(0.1)
    meter.settle(-50_000, 0.1)
    assert meter.bucket.level(0.1) == level - 50_000


def test_what_was_lowered_an_hour_ago_explains_nothing():
    """It was somebody else, whether answers take more than estimated now or not."""
    meter = a_meter(Resource.OUTPUT, level=2_000_000)
    hear(meter, 1_900_000, now=0.1)
    for second in range(1, 3_600):
        hear(meter, meter.bucket.level(second), now=float(second))
    level = meter.bucket.level(3_600.0)
    meter.settle(-50_000, 3_600.0)
    assert meter.bucket.level(3_600.0) == pytest.approx(level - 50_000, abs=10)
