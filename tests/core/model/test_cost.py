"""Costs name an amount of every resource."""

from types import SimpleNamespace

import pytest

from claude_executor.core.model.cost import AMOUNT, NOTHING, VARIANCE, Cost, Resource, Usage


@pytest.mark.parametrize(
    ("resource", "amount"),
    [(Resource.REQUESTS, 1), (Resource.INPUT, 20), (Resource.OUTPUT, 300), (Resource.TOKENS, 320)],
)
def test_a_cost_has_an_amount_of_every_resource(resource, amount):
    """Tokens are input and output together."""
    assert AMOUNT[resource](Cost(1.0, 20.0, 300.0, 7.0)) == amount
    assert AMOUNT[resource](NOTHING) == 0


@pytest.mark.parametrize(
    ("resource", "variance"),
    [(Resource.REQUESTS, 0), (Resource.INPUT, 7), (Resource.OUTPUT, 40), (Resource.TOKENS, 47)],
)
def test_a_cost_says_how_unsure_each_amount_is(resource, variance):
    """A request is one request; tokens are guesses."""
    assert VARIANCE[resource](Cost(1.0, 20.0, 300.0, 7.0, 40.0)) == variance


def test_cache_writes_count_and_cache_reads_do_not():
    """The settled input is what was not read from the cache, unless reads count for the model."""
    usage = Usage(input_tokens=10, output_tokens=5, cache_creation_tokens=200, cache_read_tokens=3_000)
    assert usage.cost() == Cost(1.0, 210.0, 5.0, 0.0)
    assert usage.cost(cache_reads_count=True) == Cost(1.0, 3_210.0, 5.0, 0.0)


@pytest.mark.parametrize("odd", ["1", None, [], {}, 1e300, -1, 10**30, "fast"])
def test_usage_with_odd_fields_counts_only_what_is_a_number_of_tokens(odd):
    """Proxies leave fields out and put strange things in; that ends nothing and charges nothing."""
    fields = ("input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use")
    usage = Usage.from_api({"output_tokens": 3, **dict.fromkeys(fields, odd)})
    assert usage == Usage(output_tokens=3)


def test_usage_is_the_same_from_json_and_from_an_object():
    """An answer that was read back from a file costs what it cost when it came."""
    said = {
        "input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_1h_input_tokens": 5}, "server_tool_use": {"web_search_requests": 6},
        "speed": "fast", "inference_geo": "us", "service_tier": "batch",
    }  # fmt: skip
    nested = {name: SimpleNamespace(**one) if isinstance(one, dict) else one for name, one in said.items()}
    expected = Usage(1, 2, 3, 4, 5, 6, "fast", "us", "batch")
    assert Usage.from_api(said) == Usage.from_api(SimpleNamespace(**nested)) == expected
    assert Usage.from_api(None) == Usage()
