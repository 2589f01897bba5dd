"""How many requests may be in flight."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.control.concurrency import DECREASE, DECREASE_INTERVAL, ConcurrencyLimit


def opened(ceiling=100, to=None):
    """A window that has been opened so far."""
    window = ConcurrencyLimit(ceiling)
    window.raise_to(ceiling if to is None else to)
    return window


def overload(window, in_flight, now):
    """A flight that fails together; whether the window was cut for it."""
    return sum([window.on_overload(in_flight, now) for _ in range(20)])


def test_it_starts_with_one_request():
    """The first request goes alone; a ceiling below the start holds."""
    assert ConcurrencyLimit(100).limit == 1.0
    assert ConcurrencyLimit(3, start=10.0).limit == 3.0


def test_opening_never_closes_and_never_passes_the_ceiling():
    """`open_to` is a minimum."""
    window = ConcurrencyLimit(100)
    window.raise_to(40.0)
    window.raise_to(10.0)
    assert window.limit == 40.0
    window.raise_to(float("inf"))
    assert window.limit == 100.0


def test_below_the_old_level_it_doubles_with_each_round_trip():
    """Each answer adds one while all of the window is in use."""
    window = ConcurrencyLimit(1_000)
    sizes = []
    for _ in range(6):
        flight = int(window.limit)
        for _ in range(flight):
            window.on_success(flight)
        sizes.append(window.limit)
    assert sizes == [2, 4, 8, 16, 32, 64]


def test_a_window_that_is_not_used_does_not_grow():
    """Half of it in flight is not enough, a little more is."""
    window = opened(100, to=10)
    window.on_success(5)
    assert window.limit == 10.0
    window.on_success(6)
    assert window.limit == 11.0


def test_overload_cuts_what_was_in_flight():
    """Not the window, which may never have been full."""
    window = opened(100)
    assert overload(window, 40, 0.0)
    assert window.limit == pytest.approx(DECREASE * 40)
    assert window.before_overload == 40


def test_in_flight_beyond_the_window_does_not_count():
    """After a cut more may be out than the window allows; the next cut starts from the window."""
    window = opened(100)
    overload(window, 100, 0.0)
    overload(window, 90, DECREASE_INTERVAL)
    assert window.limit == pytest.approx(100 * DECREASE**2)


def test_a_flight_that_fails_together_cuts_once():
    """Twenty failures at once are one cut, and there is no second within the interval; afterwards again."""
    window = opened(100)
    assert overload(window, 100, 10.0) == 1
    assert not overload(window, 100, 10.0 + DECREASE_INTERVAL * 0.99)
    assert window.limit == pytest.approx(100 * DECREASE)
    assert overload(window, 70, 10.0 + DECREASE_INTERVAL)
    assert window.limit == pytest.approx(100 * DECREASE**2)


@pytest.mark.parametrize(("share", "decreases"), [(0.05, False), (0.1, False), (0.5, True), (1.0, True)])
def test_single_failures_are_no_overload(share, decreases):
    """Where one in ten fails whatever the load, fewer in flight would only take longer."""
    window, failures = opened(100), 0.0
    for number in range(300):
        failures += share
        if failures >= 1.0:
            failures -= 1.0
            window.on_overload(100, number * 0.1)
        else:
            window.on_success(100)
    assert (window.limit < 70) is decreases


def test_after_an_outage_nothing_is_held_against_it():
    """One failure after a new beginning does not cut."""
    window = opened(100)
    overload(window, 100, 0.0)
    window.restart(0.25)
    assert not window.on_overload(25, 100.0)
    assert window.limit == 25.0


def test_it_is_never_cut_below_one():
    """One request must always be able to go."""
    window = opened(100)
    for second in range(0, 100, 2):
        overload(window, 0, float(second))
    assert window.limit == 1.0


def test_above_the_level_that_went_wrong_it_grows_slowly():
    """Fast up to nine tenths of it, then a few a round trip."""
    window = opened(100)
    overload(window, 100, 0.0)
    while window.limit < 90:
        before = window.limit
        window.on_success(100)
        assert window.limit == before + 1
    before = window.limit
    for _ in range(90):
        window.on_success(100)
    assert before + 3 < window.limit < before + 5


def test_what_was_in_flight_before_the_trouble_is_remembered_through_it():
    """Failures in the same trouble keep it; one after a time of calm begins a new trouble."""
    window = opened(100)
    overload(window, 80, 0.0)
    overload(window, 40, 30.0)
    overload(window, 20, 59.0)
    assert window.before_overload == 80
    for _ in range(200):
        window.on_success(20)
    overload(window, 10, 60.0)
    assert window.before_overload == 10


def test_starting_again_is_bounded_on_both_sides():
    """At least one, at most the ceiling."""
    window = opened(50)
    overload(window, 50, 0.0)
    window.restart(0.25)
    assert window.limit == 12.5
    window.restart(0.001)
    assert window.limit == 1.0
    window.restart(5.0)
    assert window.limit == 50.0


def test_a_window_at_its_ceiling_moves_with_it():
    """Up and down; one below it stays where it is unless the ceiling comes down on it."""
    window = opened(50)
    window.reconfigure(200)
    assert window.limit == 200.0
    window.reconfigure(20)
    assert window.limit == 20.0
    window = opened(50, to=5)
    window.reconfigure(100)
    assert window.limit == 5.0
    window.reconfigure(3)
    assert window.limit == 3.0


def test_after_a_higher_ceiling_it_still_doubles():
    """The level that went wrong is not the old ceiling."""
    window = opened(50, to=10)
    window.reconfigure(500)
    for _ in range(300):
        window.on_success(500)
    assert window.limit == 310.0


def test_a_higher_ceiling_does_not_forget_what_went_wrong():
    """Slow growth above the old trouble remains."""
    window = opened(100)
    overload(window, 50, 0.0)
    window.reconfigure(500)
    for _ in range(100):
        window.on_success(500)
    assert window.limit < 60


events = st.one_of(
    st.tuples(st.just("on_success"), st.integers(0, 300)),
    st.tuples(st.just("on_overload"), st.integers(0, 300)),
    st.tuples(st.just("restart"), st.floats(0, 300)),
    st.tuples(st.just("raise_to"), st.floats(0, 300)),
    st.tuples(st.just("reconfigure"), st.integers(1, 300)),
)


@settings(max_examples=80, deadline=None)
@given(
    ceiling=st.integers(1, 300), script=st.lists(st.tuples(st.floats(0, 5), events), min_size=1, max_size=60)
)
def test_the_limit_stays_between_one_and_the_ceiling(ceiling, script):
    """Whatever happens, one request may go and no more than the user allows."""
    window, now = ConcurrencyLimit(ceiling), 0.0
    for gap, (what, number) in script:
        now += gap
        if what == "on_overload":
            window.on_overload(number, now)
        else:
            getattr(window, what)(number)
        ceiling = number if what == "reconfigure" else ceiling
        assert 1.0 <= window.limit <= ceiling


def test_the_repr_tells_the_state():
    """Limit and ceiling."""
    assert repr(opened(50, to=12.5)) == "<ConcurrencyLimit 12.5/50>"
