"""Guesses of what a request costs, and what they learn."""

import math
import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.factories import HAIKU, a_shape

from claude_executor.core.control.cost_estimator import CostEstimator
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.request import IMAGE_TOKENS, TOOLS_OVERHEAD, shape_of

examples = settings(max_examples=60, deadline=None)


def request(*content, **more):
    """A request of one message for each content."""
    messages = [{"role": "user", "content": part} for part in content]
    return {"model": HAIKU, "max_tokens": 500, "messages": messages, **more}


def text(words, **more):
    """A block of text."""
    return {"type": "text", "text": words, **more}


# ---- shapes


@pytest.mark.parametrize(
    ("params", "text_bytes"),
    [
        (request("hello"), 5),
        (request("grüße"), 7),  # UTF-8
        (request("\ud800"), 3),  # half a character is no reason to fail
        (request("hello", "you"), 8),
        (request([text("hello"), text("you")]), 8),
        (request("hello", system="be kind"), 12),
        (request("hello", system=[text("be kind")]), 12),
        (request([{"type": "tool_result", "tool_use_id": "t1", "content": [text("42")]}]), 4),
        (request([{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1, "b": "two"}}]), 12),
        (request([{"type": "thinking", "thinking": "hmm", "signature": "x" * 999}]), 3),
        (request([{"type": "document", "source": {"type": "text", "data": "words"}}]), 5),
        (request([SimpleNamespace(type="text", text="hello", citations=None)]), 5),  # as the SDK returns it
        (request([None, object(), b"bytes"]), 0),
        (request(("a", "tuple")), 6),
    ],
)
def test_text_is_measured_in_bytes_wherever_it_stands(params, text_bytes):
    """Strings, blocks, tool calls and their results, system prompts, and the SDK's own objects."""
    assert shape_of(params).text_bytes == text_bytes


def test_a_shape_names_model_and_max_tokens():
    """What the estimate depends on beside the text."""
    shape = shape_of(request("hello"))
    assert (shape.model, shape.max_tokens) == (HAIKU, 500)


def test_every_message_and_every_request_has_some_overhead():
    """Framing costs tokens too."""
    one, two = shape_of(request("a")).other_tokens, shape_of(request("a", "b")).other_tokens
    assert 0 < two - one < one


def test_tools_bring_a_hidden_prompt():
    """Tool definitions are text, and there is a constant beside; an empty list brings nothing."""
    tool = {"name": "add", "description": "adds", "input_schema": {"type": "object", "required": ["a"]}}
    plain, tools = shape_of(request("hi")), shape_of(request("hi", tools=[tool]))
    assert tools.other_tokens == plain.other_tokens + TOOLS_OVERHEAD
    assert tools.text_bytes == plain.text_bytes + len("add" + "adds" + "a")
    assert shape_of(request("hi", tools=[])) == plain


@pytest.mark.parametrize(
    "source", [{"type": "base64", "data": "x" * 500_000}, {"type": "url", "url": "https://…"}]
)
def test_an_image_costs_the_same_however_large(source):
    """The API scales images down, so their bytes are no measure."""
    with_image = shape_of(request([text("what is this?"), {"type": "image", "source": source}]))
    without = shape_of(request([text("what is this?")]))
    assert with_image.other_tokens == without.other_tokens + IMAGE_TOKENS
    assert with_image.text_bytes == without.text_bytes


def test_an_image_inside_a_tool_result_counts():
    """Screenshots come back nested."""
    inner = {"type": "image", "source": {"type": "base64", "data": "x" * 9_999}}
    shape = shape_of(request([{"type": "tool_result", "tool_use_id": "t", "content": [inner]}]))
    assert shape.other_tokens >= IMAGE_TOKENS
    assert shape.text_bytes < 10


def test_a_pdf_counts_by_its_size_but_not_as_text():
    """Base64 is not text: a byte of it is far less than a byte of prose."""
    small, large = (
        shape_of(
            request([{"type": "document", "source": {"type": "base64", "data": "x" * size}}])
        ).other_tokens
        for size in (60_000, 600_000)
    )
    assert 1_000 < small < 4_000
    assert large > 9 * small
    odd = shape_of(request([{"type": "document", "source": {"type": "base64", "data": b"x"}}]))
    assert odd.other_tokens > 1_000
    assert odd.text_bytes == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
    ],
)
def test_what_cannot_be_a_request_is_refused(change, message):
    """The message names the parameter."""
    with pytest.raises(ValueError, match=f"'{message}'"):
        shape_of(request("hello") | change)


def test_a_shape_holds_no_text():
    """Nothing of a prompt can be read off a shape, its repr included."""
    marked = text("a very secret prompt", cache_control={"type": "ephemeral"})
    assert "secret" not in repr(shape_of(request([marked], system="secret too")))


# ---- cached prefixes

CACHED = {"cache_control": {"type": "ephemeral"}}


def cached(question, prefix="x" * 8_000, model=HAIKU):
    """The shape of a question after a long prefix marked for the cache."""
    return shape_of(request([text(prefix, **CACHED), text(question)]) | {"model": model})


def test_a_marked_prefix_is_recognised_again():
    """The same text up to the marker gives the same prefix; other text, or none marked, does not."""
    assert cached("one").prefix == cached("another").prefix
    assert cached("one").prefix_bytes == 8_000
    assert cached("one", "y" * 8_000).prefix != cached("one").prefix
    assert shape_of(request("one")).prefix is None


def test_the_last_marker_counts():
    """With several markers the longest prefix is remembered."""
    shape = shape_of(request([text("a" * 10, **CACHED)], [text("b" * 10, **CACHED), text("c")]))
    assert shape.prefix_bytes == 20


def test_a_system_prompt_and_tools_come_before_the_messages():
    """The order in which the API reads a request decides what a prefix is."""
    shape = shape_of(
        request("question", system=[text("s" * 100, **CACHED)], tools=[{"name": "n" * 10, "description": ""}])
    )
    assert shape.prefix_bytes == 110


def test_of_a_request_whose_prefix_is_cached_only_the_rest_counts():
    """Cached input is free, except for Haiku 3.5, which counts cache reads."""
    estimator = CostEstimator()
    assert estimator.cost(cached("one")).input_tokens > 1_000
    assert estimator.cost(cached("one"), cached=True).input_tokens < 100
    old = cached("one", model="claude-3-5-haiku-20241022")
    assert estimator.cost(old, cached=True).input_tokens > 1_000


# ---- learning


@pytest.mark.parametrize(
    ("model", "real"),
    [(HAIKU, 2.7), ("claude-opus-4-8", 2.7), ("claude-opus-4-7", 2.7), ("claude-opus-5-5", 2.7)]
    + [(model, 3.5) for model in ("claude-opus-4-6", "claude-sonnet-4-5", "claude-3-5-haiku-20241022")],
)
def test_the_first_guess_of_input_is_high(model, real):
    """Before anything is learned, prose is taken for more tokens than it has: too low costs a 429."""
    cost = CostEstimator().cost(a_shape(model, text_bytes=100_000))
    assert 100_000 / real < cost.input_tokens < 2 * 100_000 / real
    assert cost.requests == 1.0


@pytest.mark.parametrize("ratio", [0.06, 0.25, 0.4, 1.4])
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [(100,), (300, 20_000, 50, 4_000)], ids=["short", "mixed"])
def test_learning_finds_the_true_ratio_though_hundreds_are_in_flight(ratio, noise, sizes):
    """With answers 300 requests late the estimate moves to the truth and does not swing past it."""
    chance, estimator, flight = random.Random(1), CostEstimator(), []
    guess = (estimator.cost(a_shape(text_bytes=10_000)).input_tokens - 14) / 10_000
    low, high = min(ratio, guess) * (1 - noise), max(ratio, guess) * (1 + noise)
    for number in range(1_200):
        shape = a_shape(text_bytes=sizes[number % len(sizes)])
        estimate = estimator.cost(shape).input_tokens - shape.other_tokens
        assert low * shape.text_bytes - 1 <= estimate <= high * shape.text_bytes + 1
        wobble = 1 + chance.uniform(-noise, noise)
        flight.append((shape, Usage(round(shape.other_tokens + ratio * wobble * shape.text_bytes), 50)))
        if len(flight) > 300:
            estimator.learn(*flight.pop(0))
    found = (estimator.cost(a_shape(text_bytes=10_000)).input_tokens - 14) / 10_000
    assert found == pytest.approx(ratio, rel=0.05 + noise / 3, abs=0.02)
    assert dict(estimator.bytes_per_token())[HAIKU] == pytest.approx(1 / found)


def test_cache_reads_are_tokens_of_the_text_too():
    """The ratio is learned from all input, however it was charged."""
    fresh, cached_ = CostEstimator(), CostEstimator()
    for _ in range(50):
        fresh.learn(a_shape(), Usage(1_000, 10))
        cached_.learn(a_shape(), Usage(100, 10, 300, 600))
    assert fresh.cost(a_shape()) == cached_.cost(a_shape())


@pytest.mark.parametrize(
    ("shape", "usage"),
    [(a_shape(text_bytes=0), Usage(1_700, 10)), (a_shape(), Usage(0, 10)), (a_shape(), Usage(5, 10))],
)
def test_an_answer_that_tells_nothing_of_the_text_spoils_nothing(shape, usage):
    """No text, no usage, or less than the overhead: the ratio stays within reason."""
    estimator = CostEstimator()
    before = estimator.cost(a_shape()).input_tokens
    estimator.learn(shape, usage)
    assert before / 2 < estimator.cost(a_shape()).input_tokens <= before


def test_models_learn_apart():
    """What one model's tokeniser does says nothing about another's."""
    estimator = CostEstimator()
    before = estimator.cost(a_shape("claude-sonnet-5"))
    for _ in range(100):
        estimator.learn(a_shape(HAIKU), Usage(2_500, 400))
    assert estimator.cost(a_shape("claude-sonnet-5")) == before


def test_output_is_the_mean_of_what_was_answered_and_not_max_tokens():
    """64,000 allowed and 500 used reserves about 500."""
    estimator = CostEstimator()
    for _ in range(1_000):
        estimator.learn(a_shape(max_tokens=64_000), Usage(100, 500))
    cost = estimator.cost(a_shape(max_tokens=64_000))
    assert cost.output_tokens == pytest.approx(500, rel=0.05)
    assert math.sqrt(cost.output_variance) < 250


def test_requests_with_other_max_tokens_are_other_requests():
    """A short form and a long one are learned apart."""
    estimator = CostEstimator()
    for _ in range(200):
        estimator.learn(a_shape(max_tokens=16_000), Usage(100, 9_000))
        estimator.learn(a_shape(max_tokens=1_000), Usage(100, 20))
    assert estimator.cost(a_shape(max_tokens=16_000)).output_tokens > 8_000
    assert estimator.cost(a_shape(max_tokens=1_000)).output_tokens < 100


@examples
@given(
    max_tokens=st.integers(0, 4_000),
    outputs=st.lists(st.integers(0, 4_000), max_size=60),
    asked=st.integers(0, 4_000),
)
def test_a_guess_of_output_never_exceeds_what_is_possible(max_tokens, outputs, asked):
    """The mean lies within max_tokens, and the variance within what values up to there can have."""
    estimator = CostEstimator()
    for tokens in outputs:
        estimator.learn(a_shape(max_tokens=max_tokens), Usage(10, tokens))
    cost = estimator.cost(a_shape(max_tokens=asked))
    assert 0 <= cost.output_tokens <= asked
    assert 0 <= cost.output_variance <= cost.output_tokens * (asked - cost.output_tokens) + 1e-6
    assert cost.output_variance <= asked**2 / 4 + 1e-6


@examples
@given(seed=st.integers(0, 99))
def test_the_spread_of_outputs_is_learned(seed):
    """Mean and standard deviation come out near those of the answers."""
    chance, estimator = random.Random(seed), CostEstimator()
    outputs = [chance.choice((100, 900)) for _ in range(800)]
    for tokens in outputs:
        estimator.learn(a_shape(max_tokens=1_000), Usage(10, tokens))
    cost = estimator.cost(a_shape(max_tokens=1_000))
    assert cost.output_tokens == pytest.approx(500, abs=120)
    # 0 to 1000 with a mean of 500 cannot vary more than 500, and these vary by 400
    assert math.sqrt(cost.output_variance) == pytest.approx(400, abs=60)


def test_a_platform_that_reserves_max_tokens_is_charged_max_tokens():
    """With the switch, output is the whole of max_tokens, and nothing is uncertain."""
    estimator = CostEstimator(reserve_max_tokens=True)
    for _ in range(100):
        estimator.learn(a_shape(max_tokens=8_000), Usage(100, 20))
    cost = estimator.cost(a_shape(max_tokens=8_000))
    assert (cost.output_tokens, cost.output_variance) == (8_000.0, 0.0)


def test_output_that_was_told_was_thrown_away():
    """It is the guess where nothing is learned; what is learned is of its like alone."""
    estimator = CostEstimator()
    told = a_shape(max_tokens=8_000)._replace(expected_output=3_000.0)
    assert estimator.cost(told).output_tokens == 3_000
    assert estimator.cost(told._replace(max_tokens=2_000)).output_tokens == 2_000
    for _ in range(100):
        estimator.learn(a_shape(max_tokens=8_000), Usage(10, 20))
        estimator.learn(told._replace(expected_output=30.0), Usage(10, 40))
    assert estimator.cost(told).output_tokens == 3_000
    for _ in range(100):
        estimator.learn(told, Usage(10, 2_000))
    assert estimator.cost(told).output_tokens == pytest.approx(2_000, rel=0.01)
    assert estimator.cost(a_shape(max_tokens=8_000)).output_tokens == pytest.approx(20, rel=0.1)
