"""Prices: the same sums as the library makes, and unknown where it knows nothing."""

import genai_prices
import pytest
from anthropic.types import Usage

from claude_executor.bulk import Prices, Spent
from claude_executor.sdk.usage import usage_from_sdk


def listed(model: str, *, fresh: int, read: int, written: int, output: int) -> float:
    """What the library says it costs."""
    usage = genai_prices.Usage(
        input_tokens=fresh + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
    )
    return float(genai_prices.calc_price(usage, model_ref=model, provider_id="anthropic").total_price)


def test_what_an_event_tells_is_priced_alike():
    """An executor's usage of an attempt costs what the API's usage of the answer would."""
    said = Usage.model_validate(
        {
            "input_tokens": 1_000,
            "output_tokens": 300,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 40,
            "cache_creation": {"ephemeral_1h_input_tokens": 30, "ephemeral_5m_input_tokens": 10},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
            "speed": "fast",
            "inference_geo": "us",
        }
    )
    model = "claude-opus-5-5"
    assert Prices().spent_by(model, usage_from_sdk(said)) == Prices().spent(model, said)


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-haiku-4-5", "claude-sonnet-4-5-20250929"])
@pytest.mark.parametrize("fresh", [0, 1_000, 99_000, 100_000, 100_001, 250_000])
@pytest.mark.parametrize(("read", "written"), [(0, 0), (700, 300), (150_000, 0)])
def test_agrees_with_the_library(model, fresh, read, written):
    """Tiers by prompt length, cache reads and writes are priced as the library prices them."""
    usage = Usage(
        input_tokens=fresh,
        output_tokens=321,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
    )
    spent = Prices().spent(model, usage)
    assert spent.dollars == pytest.approx(
        listed(model, fresh=fresh, read=read, written=written, output=321), rel=1e-9
    )


def test_unknown_model_has_an_unknown_price():
    """No price is not a price of nothing, and one unknown makes the sum unknown."""
    spent = Prices().spent("claude-of-tomorrow", Usage(input_tokens=5, output_tokens=5))
    assert spent.dollars is None
    assert (Spent(1, 1, 0, 0, 2.0) + spent).dollars is None
    assert (Spent(1, 1, 0, 0, 2.0) + spent).input_tokens == 6


def test_fast_mode_costs_double():
    """The API says in usage which speed it served."""
    slow = Prices().spent("claude-opus-5-5", Usage(input_tokens=1_000, output_tokens=10))
    fast = Prices().spent("claude-opus-5-5", Usage(input_tokens=1_000, output_tokens=10, speed="fast"))
    assert slow.dollars is not None
    assert fast.dollars == pytest.approx(2 * slow.dollars)


def test_batch_answers_cost_half():
    """Answers of Message Batches are half price, and say so in usage."""
    usage = {"input_tokens": 1_000, "output_tokens": 10}
    single = Prices().spent("claude-opus-5-5", Usage(**usage))
    batch = Prices().spent("claude-opus-5-5", Usage(**usage, service_tier="batch"))
    assert single.dollars is not None
    assert batch.dollars == pytest.approx(single.dollars / 2)


def test_inference_in_the_united_states_costs_a_tenth_more():
    """Where it was kept there, the answer says so; searches cost the same everywhere."""
    usage = {"input_tokens": 1_000, "output_tokens": 10}
    anywhere = Prices().spent("claude-opus-5-5", Usage(**usage, inference_geo="global"))
    there = Prices().spent("claude-opus-5-5", Usage(**usage, inference_geo="us"))
    searched = Prices().dollars("claude-opus-5-5", 1_000, 10, searches=1, factor=1.1)
    assert anywhere.dollars is not None
    assert there.dollars == pytest.approx(1.1 * anywhere.dollars)
    assert searched == pytest.approx(1.1 * anywhere.dollars + 0.01)


def test_sums_of_many_requests_are_priced_by_the_length_of_each():
    """A hundred short prompts are not one long one."""
    prices = Prices()
    (step,) = prices.steps("claude-haiku-5-5")
    each = prices.dollars("claude-haiku-5-5", step, 50)
    assert each is not None
    assert prices.dollars("claude-haiku-5-5", 100 * step, 5_000, prompt=step) == pytest.approx(100 * each)
    assert prices.dollars("claude-haiku-5-5", 100 * step, 5_000) > 150 * each
    assert prices.steps("claude-of-tomorrow") == []
