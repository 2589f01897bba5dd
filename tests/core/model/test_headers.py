"""Response headers, in every form they come in and every form they should not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.model.cost import Resource
from claude_executor.core.model.headers import NO_HINTS, LimitQuote, parse

DATE = "Thu, 08 Oct 2026 14:50:42 GMT"

PREFIXES = {
    Resource.REQUESTS: "anthropic-ratelimit-requests",
    Resource.INPUT: "anthropic-ratelimit-input-tokens",
    Resource.OUTPUT: "anthropic-ratelimit-output-tokens",
}


def triple(resource, limit="1000", remaining="900", reset="2026-10-08T14:51:42Z", date=DATE):
    """The three headers of one resource, and the date."""
    name = PREFIXES[resource]
    headers = {f"{name}-limit": limit, f"{name}-remaining": remaining, f"{name}-reset": reset, "date": date}
    return {key: value for key, value in headers.items() if value is not None}


@pytest.mark.parametrize("resource", PREFIXES)
def test_each_resource_is_quoted(resource):
    """Limit, remaining, and the span from the response's date to the reset."""
    assert parse(triple(resource)).quotes == {resource: LimitQuote(1_000.0, 900.0, 60.0)}


def test_all_three_are_read_together_and_the_combined_one_is_not():
    """`anthropic-ratelimit-tokens-*` repeats the shortest of the others, so it is no bucket of its own."""
    headers = {key: value for resource in PREFIXES for key, value in triple(resource).items()}
    headers |= {"anthropic-ratelimit-tokens-limit": "5", "anthropic-ratelimit-tokens-remaining": "0"}
    assert set(parse(headers).quotes) == set(PREFIXES)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("2026-10-08T14:51:42Z", 60.0),
        ("2026-10-08T14:51:42.500Z", 60.5),
        ("2026-10-08T14:51:42+00:00", 60.0),
        ("2026-10-08T16:51:42+02:00", 60.0),
        ("2026-10-08T14:51:42", 60.0),  # no zone: taken as UTC
        ("Thu, 08 Oct 2026 14:51:42 GMT", 60.0),
        ("2026-10-08T14:50:00Z", 0.0),  # already full
        ("2026-10-09T00:00:00Z", 32_958.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("6m0s", None),
        ("1791471102", None),
        ("Thu, 08 Okt 2026 14:51:42 GMT", None),
        ("Thu, 08 Oct 2026", None),
        ("Thu, 38 Oct 2026 14:51:42 GMT", None),
        ("2026-13-08T14:51:42Z", None),
    ],
)
def test_a_reset_is_a_span_after_the_date_header(reset, seconds):
    """RFC 3339 with any offset and HTTP dates are understood; anything else leaves the span out."""
    assert parse(triple(Resource.INPUT, reset=reset)).quotes[Resource.INPUT].full_in == seconds


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 08 Oct"])
def test_without_a_date_a_reset_means_nothing(date):
    """This machine's clock is not asked, so a reset alone is no span; the rest still counts."""
    assert parse(triple(Resource.OUTPUT, date=date)).quotes == {
        Resource.OUTPUT: LimitQuote(1_000.0, 900.0, None)
    }


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        (None, "1"),
        ("1", None),
        ("", "1"),
        ("many", "1"),
        ("1,000", "1"),
        ("nan", "1"),
        ("inf", "1"),
        ("-5", "1"),
        ("0", "0"),  # a limit of nothing: not enabled, no bucket
        ("5", "-1"),
        ("5", "nan"),
    ],
)
def test_a_quote_that_is_missing_or_malformed_is_left_out(limit, remaining):
    """One bad resource does not spoil the others."""
    headers = triple(Resource.INPUT, limit, remaining) | triple(Resource.REQUESTS)
    assert set(parse(headers).quotes) == {Resource.REQUESTS}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "171"}, 171.0),
        ({"retry-after": "604800"}, 604_800.0),  # no cap: what is told is obeyed
        ({"retry-after": "0"}, None),  # a wait of nothing is no advice
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "300"}, 0.3),
        ({"retry-after-ms": "1500.5"}, 1.5005),
        ({"retry-after-ms": "300", "retry-after": "7"}, 0.3),  # the finer one wins
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "0", "retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 08 Oct 2026 14:50:52 GMT", "date": DATE}, 10.0),
        ({"retry-after": "Thu, 08 Oct 2026 14:50:32 GMT", "date": DATE}, None),  # in the past
        ({"retry-after": "Thu, 08 Oct 2026 14:50:52 GMT"}, None),
        ({"retry-after": "2026-10-08T14:50:52Z", "date": DATE}, 10.0),
    ],
)
def test_a_wait_is_read_in_seconds_milliseconds_or_as_a_date(headers, seconds):
    """Every form of `retry-after`; what says nothing is nothing."""
    assert parse(headers).retry_after == seconds


@pytest.mark.parametrize(
    ("text", "meaning"), [("true", True), ("false", False), ("TRUE", None), ("", None), (None, None)]
)
def test_should_retry_is_true_false_or_not_told(text, meaning):
    """`x-should-retry` as the API writes it."""
    assert parse({} if text is None else {"x-should-retry": text}).should_retry is meaning


def test_no_headers_no_advice():
    """A response that says nothing advises nothing."""
    assert parse({}) == NO_HINTS


def test_a_real_429_is_read():
    """The one complete refusal seen in the field: overdrawn input, the rest full."""
    headers = {
        "date": "Mon, 02 Jun 2025 15:14:45 GMT",
        "retry-after": "16",
        "x-should-retry": "true",
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "4000",
        "anthropic-ratelimit-requests-reset": "2025-06-02T15:14:45Z",
        "anthropic-ratelimit-input-tokens-limit": "200000",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2025-06-02T15:15:48Z",
        "anthropic-ratelimit-output-tokens-limit": "80000",
        "anthropic-ratelimit-output-tokens-remaining": "80000",
        "anthropic-ratelimit-output-tokens-reset": "2025-06-02T15:14:45Z",
    }
    advice = parse(headers)
    assert advice.retry_after == 16.0
    assert advice.should_retry is True
    assert advice.quotes == {
        Resource.REQUESTS: LimitQuote(4_000.0, 4_000.0, 0.0),
        Resource.INPUT: LimitQuote(200_000.0, 0.0, 63.0),
        Resource.OUTPUT: LimitQuote(80_000.0, 80_000.0, 0.0),
    }


odd = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,8} \d{1,3}:\d{1,3}:\d{1,3}"),
    st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e999", "\uff12\uff10"]),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([*triple(Resource.INPUT), "retry-after", "retry-after-ms"]), odd))
def test_no_header_however_odd_raises(headers):
    """Whatever a proxy sends, a response can be read, and its numbers are usable."""
    advice = parse(headers)
    assert advice.retry_after is None or advice.retry_after > 0
    for quote in advice.quotes.values():
        assert quote.limit > 0
        assert quote.remaining >= 0
        assert quote.full_in is None or quote.full_in >= 0
