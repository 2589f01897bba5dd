"""Costs name an amount of every resource."""

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
