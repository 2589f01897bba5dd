"""Caps on what all requests together may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.factories import HAIKU, a_job, a_shape

from claude_executor.core.control.spending import SpendingCap, SpendingCaps, all_tokens
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.request import shape_of


def dollars(model, usage):
    """One for a million input tokens, five for output, twice as much as input for what is cached for long."""
    hour = usage.cache_hour_tokens
    short = usage.cache_creation_tokens - hour
    read = usage.cache_read_tokens
    return (usage.input_tokens + 1.25 * short + 2 * hour + 0.1 * read + 5 * usage.output_tokens) / 1e6


def priced(spending, number=1, **shape):
    """A job whose next attempt is priced."""
    job = a_job(number)
    job.shape = a_shape(**shape)
    spending.set_worst_case(job)
    return job


@pytest.mark.parametrize("amount", [0, -1.0, float("inf"), float("nan")])
def test_a_cap_is_a_positive_number(amount):
    """Nothing else makes sense."""
    with pytest.raises(ValueError, match="spending cap must be a positive number"):
        SpendingCap(amount)


def test_what_is_reserved_counts_as_spent_until_the_answer_tells():
    """So that whatever is in flight cannot overshoot."""
    spending = SpendingCaps([SpendingCap(10_000)])
    first, second = (priced(spending, n, text_bytes=2_000, max_tokens=5_000) for n in (1, 2))
    assert first.worst_case == (2_000 + 3 * 14 + 5_000,)
    assert spending.fits(first)
    spending.reserve(first)
    assert not spending.fits(second)
    assert spending.could_fit(second)
    spending.settle(first, Usage(600, 400))
    assert spending.spent() == (1_000,)
    assert spending.fits(second)


def test_an_attempt_that_may_have_been_charged_counts_in_full():
    """Nobody knows better."""
    spending = SpendingCaps([SpendingCap(10_000)])
    job = priced(spending)
    spending.reserve(job)
    spending.settle(job, None)
    assert spending.spent() == job.worst_case


def test_every_cap_must_have_room():
    """Money and tokens at once."""
    spending = SpendingCaps([SpendingCap(1e9), SpendingCap(0.001, dollars, "dollars")])
    job = priced(spending, max_tokens=500)
    assert not spending.fits(job)
    assert not spending.could_fit(job)


def test_the_most_allows_for_writing_to_the_cache():
    """For an hour, which is the dearest way to read a prompt."""
    shape = a_shape(text_bytes=1_000, max_tokens=0)
    assert SpendingCap(1.0, dollars).worst_case(shape) == pytest.approx(2 * (1_000 + 42) / 1e6)


@given(
    st.lists(st.tuples(st.text(max_size=200), st.text(max_size=30)), min_size=1, max_size=5),
    st.dictionaries(st.text(max_size=30), st.text(max_size=30), max_size=5),
)
def test_no_request_takes_more_input_than_it_has_bytes_on_the_wire(messages, properties):
    """Text, names and marks together: what a tokeniser sees cannot be more tokens than bytes."""
    import orjson

    params = {
        "model": HAIKU,
        "max_tokens": 10,
        "system": messages[0][1],
        "messages": [{"role": "user", "content": text} for text, _ in messages],
        "tools": [{"name": "t", "input_schema": {"type": "object", "properties": properties}}],
    }
    try:
        wire = len(orjson.dumps([params["system"], params["messages"], params["tools"]], option=0))
    except TypeError:
        return  # half a surrogate pair, which is no text
    escaped = orjson.dumps([params["system"], params["messages"], params["tools"]]).count(b"\\")
    assert shape_of(params).max_text_tokens + 6 * escaped + 60 >= wire


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2_000), st.floats(0, 1)), max_size=60),
    st.integers(1, 40_000),
    st.randoms(),
)
def test_no_order_of_events_spends_more_than_the_cap(requests, cap, random):
    """As long as no request starts without room, and none takes more than its most."""
    spending, flying = SpendingCaps([SpendingCap(cap)]), []
    for number, (text_bytes, max_tokens, share) in enumerate(requests):
        job = priced(spending, number, text_bytes=text_bytes, max_tokens=max_tokens)
        while not spending.fits(job) and flying:
            other, used = flying.pop(random.randrange(len(flying)))
            spending.settle(other, used)
        if spending.fits(job):
            spending.reserve(job)
            used = Usage(int(share * text_bytes), int(share * max_tokens))
            flying.append((job, random.choice([used, None])))
    for job, used in flying:
        spending.settle(job, used)
    assert spending.spent()[0] <= cap


def test_all_tokens_are_all_tokens():
    """Cached or not, in or out."""
    assert all_tokens(HAIKU, Usage(1, 20, 300, 4_000)) == 4_321
