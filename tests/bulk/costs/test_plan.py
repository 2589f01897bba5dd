"""Plans: tokens, money and time before anything is paid for, and how far off they may be."""

import asyncio
import re

import orjson
import pytest

from claude_executor import Failed, FailureKind, Limits, Stopped
from claude_executor.bulk import (
    NotCounted,
    Prices,
    Row,
    RowDefaults,
    TokenSample,
    count_tokens,
    plan,
    rows_of,
)
from claude_executor.bulk.costs.token_sample import TokenRatio, sampled_positions
from claude_executor.runtime.estimate import Estimate
from claude_executor.simulator import Rates, Settings
from claude_executor.testing import simulated_client

MODEL = "claude-haiku-5-5"
NO = RowDefaults()


@pytest.fixture
def file_of(tmp_path):
    """Write rows of the given params to a file."""

    def write(*params: dict):
        path = tmp_path / "rows.jsonl"
        with path.open("wb") as file:
            for number, these in enumerate(params):
                message = {"role": "user", "content": "How are you?"}
                whole = {"model": MODEL, "max_tokens": 1_000, "messages": [message], **these}
                file.write(orjson.dumps({"custom_id": f"r{number}", "params": whole}) + b"\n")
        return path

    return write


def asking(text: str, **more: object) -> dict:
    """Params with that prompt."""
    return {"messages": [{"role": "user", "content": text}], **more}


def guesses(path) -> list[float]:
    """The estimates of a file's rows."""
    return [Estimate.of(row.params).input_tokens for row in rows_of(path)]


def test_tokens_are_the_sum_of_the_rows(file_of):
    """Input is estimated row by row; output is between nothing and max_tokens."""
    path = file_of(asking("x" * 1_000), asking("y" * 3_000, max_tokens=100))
    planned = plan(path, NO, Limits())
    assert planned.rows == 2
    assert planned.input_tokens.guess == pytest.approx(sum(guesses(path)))
    assert planned.input_tokens.low == pytest.approx(0.7 * planned.input_tokens.guess)
    assert planned.input_tokens.high == pytest.approx(1.3 * planned.input_tokens.guess)
    assert planned.output_tokens.low == 0
    assert 100 < planned.output_tokens.guess < 500
    assert planned.output_tokens.high == 1_100


def test_money_goes_from_no_answer_to_the_longest(file_of):
    """The price of the input alone, and that of everything there may be."""
    path = file_of(asking("x" * 1_000), asking("y" * 3_000))
    planned = plan(path, NO, Limits())
    assert planned.dollars is not None
    assert planned.dollars.low == pytest.approx(0.7 * sum(guesses(path)) * 0.1e-6)
    assert planned.dollars.high == pytest.approx(1.3 * sum(guesses(path)) * 0.1e-6 + 2_000 * 0.5e-6)
    assert planned.dollars.low < planned.dollars.guess < planned.dollars.high


def test_long_prompts_are_priced_by_their_own_length(file_of):
    """Prompts beyond the step of the price list cost more, and only they."""
    path = file_of(asking("x" * 200_000), asking("x" * 400_000))
    planned = plan(path, NO, Limits(), exactly(MODEL))
    prices = Prices()
    dollars = sum(prices.dollars(MODEL, guess, 1_000.0) for guess in guesses(path))
    assert guesses(path)[0] < prices.steps(MODEL)[0] < guesses(path)[1]
    assert planned.dollars.high == pytest.approx(dollars)


def exactly(model: str) -> TokenSample:
    """As if everything had been counted, and the estimates were right."""
    return TokenSample(1, {model: TokenRatio(1, 1.0, 0.0)})


@pytest.mark.parametrize(
    ("params", "times"),
    [({"speed": "fast"}, 2.0), ({"inference_geo": "us"}, 1.1), ({"speed": "standard"}, 1)],
)
def test_dearer_ways_of_serving(file_of, params, times):
    """Fast answers cost double, those from the United States a tenth more."""
    opus = "claude-opus-5-5"
    plain = plan(file_of(asking("x" * 1_000, model=opus)), NO, Limits())
    dear = plan(file_of(asking("x" * 1_000, model=opus, **params)), NO, Limits())
    assert dear.dollars.guess == pytest.approx(times * plain.dollars.guess)


def test_unknown_price_is_unknown(file_of):
    """One model without a price makes the sum unknown, not smaller; the other's is still told."""
    planned = plan(file_of({}, {"model": "claude-of-tomorrow"}), NO, Limits())
    assert planned.dollars is None
    known, unknown = planned.models
    assert known.dollars is not None
    assert unknown.dollars is None
    assert planned.as_dict()["dollars"] is None


def system(length: int, **control: object) -> dict:
    """Params with a system prompt that is to be cached."""
    block = {"type": "text", "text": "s" * length, "cache_control": {"type": "ephemeral", **control}}
    return {"system": [block]}


def test_shared_prefixes_are_written_once_and_read_by_the_others(file_of):
    """The guess trusts the cache, the worst case does not; reads are free of the input limit."""
    path = file_of(*[asking(f"Question {number}", **system(10_000)) for number in range(10)])
    planned = plan(path, NO, Limits(itpm=4_500, burst=1), exactly(MODEL))
    (model,) = planned.models
    prefix = Estimate.of(next(rows_of(path)).params).prefix_tokens
    assert prefix == pytest.approx(4_000, rel=0.01)
    assert model.cache_written_tokens == pytest.approx(prefix)
    assert model.cache_read_tokens == pytest.approx(9 * prefix)
    fresh = sum(guesses(path)) - 10 * prefix
    assert planned.dollars.low == pytest.approx((fresh * 0.1 + prefix * 0.125 + 9 * prefix * 0.01) * 1e-6)
    worst = (fresh * 0.1 + 10 * prefix * 0.125 + 10_000 * 0.5) * 1e-6
    assert planned.dollars.high == pytest.approx(worst)
    assert planned.seconds.guess == pytest.approx(60 * (fresh + prefix) / 4_500 - 1)
    assert planned.seconds.high == pytest.approx(60 * (fresh + 10 * prefix) / 4_500 - 1)


def test_written_for_an_hour(file_of):
    """What is to be kept for an hour costs more to write."""
    short = plan(file_of(system(10_000)), NO, Limits(), exactly(MODEL))
    hour = plan(file_of(system(10_000, ttl="1h")), NO, Limits(), exactly(MODEL))
    written = short.models[0].cache_written_tokens
    assert hour.dollars.low - short.dollars.low == pytest.approx(written * (0.2 - 0.125) * 1e-6)


def test_short_prefixes_are_not_cached(file_of):
    """The API caches nothing below 1,024 tokens, so nothing of it is read or written."""
    (model,) = plan(file_of(system(1_000), system(1_000)), NO, Limits(), exactly(MODEL)).models
    assert (model.cache_read_tokens, model.cache_written_tokens) == (0, 0)


def test_marking_the_whole_request_writes_it(file_of):
    """`cache_control` beside the messages caches everything; different requests find nothing of it."""
    whole = {"cache_control": {"type": "ephemeral"}}
    path = file_of(asking("x" * 10_000, **whole), asking("y" * 10_000, **whole))
    (model,) = plan(path, NO, Limits(), exactly(MODEL)).models
    assert model.cache_written_tokens == pytest.approx(sum(guesses(path)))


# ---- time


def test_time_under_the_limits_told(file_of):
    """A full bucket goes at once, the rest at the limit; the limit that takes longest is named."""
    path = file_of(*[{} for _ in range(180)])
    planned = plan(path, NO, Limits(rpm=60, otpm=1_000_000))
    (pool,) = planned.pools
    assert (planned.seconds.low, planned.seconds.guess, planned.seconds.high) == (120, 120, 120)
    assert (pool.pool, pool.limited_by, pool.limited_by_at_most) == ("haiku-5.5", "requests", "requests")
    assert pool.unknown == ("input tokens",)


def test_long_answers_may_bring_another_limit(file_of):
    """By the best guess it is requests, with the longest answers it is output."""
    path = file_of(*[{"max_tokens": 10_000} for _ in range(180)])
    (pool,) = plan(path, NO, Limits(rpm=60, otpm=60_000)).pools
    assert (pool.limited_by, pool.limited_by_at_most) == ("requests", "output tokens")
    assert pool.seconds.high == pytest.approx(60 * 180 * 10_000 / 60_000 - 60)


def test_no_limit_binds_a_small_job(file_of):
    """What fits into a full bucket takes no time because of limits."""
    (pool,) = plan(file_of({}), NO, Limits.tier("start")).pools
    assert (pool.seconds.high, pool.limited_by, pool.limited_by_at_most, pool.unknown) == (0, None, None, ())


def test_without_limits_time_is_unknown(file_of):
    """Nothing is known, and it is said so."""
    planned = plan(file_of({}, {"model": "claude-opus-4-8"}), NO, {"claude-opus-4-1": Limits(rpm=1)})
    assert planned.seconds is None
    assert [(pool.pool, pool.seconds is None) for pool in planned.pools] == [
        ("haiku-5.5", True),
        ("opus-4", False),
    ]


def test_pools_do_not_wait_for_each_other(file_of):
    """The time of all is that of the slowest; models of one pool add up."""
    opus = [{"model": f"claude-opus-4-{minor}"} for minor in (5, 6, 8) for _ in range(20)]
    planned = plan(file_of(*opus, *[{} for _ in range(10)]), NO, Limits(rpm=6, burst=1))
    assert [(pool.pool, pool.seconds.guess) for pool in planned.pools] == [("opus-4", 599), ("haiku-5.5", 99)]
    assert planned.seconds.guess == 599


def test_one_combined_limit(file_of):
    """``tpm`` counts input and output together."""
    planned = plan(file_of({}, {}), NO, Limits(tpm=100, burst=1), exactly(MODEL))
    tokens = planned.input_tokens.high + 2_000
    assert planned.seconds.high == pytest.approx(60 * tokens / 100 - 1)
    assert planned.pools[0].limited_by == "tokens"


# ---- counting


def texts(count: int) -> list[dict]:
    """Params whose prompts differ in length and in kind."""
    return [
        asking(("word " if number % 3 else "42:{}; ") * (20 + 7 * (number % 50))) for number in range(count)
    ]


def counted(simulator, path, rows, sample):
    """Count rows by the simulator."""

    async def ask():
        async with simulated_client(simulator) as client:

            async def count(params) -> int:
                asked = {name: value for name, value in params.items() if name != "max_tokens"}
                return (await client.messages.count_tokens(**asked)).input_tokens

            return await count_tokens(path, NO, rows=rows, sample=sample, count=count)

    return asyncio.run(ask())


def truth(simulator, path) -> list[int]:
    """The input tokens of every row, by the simulator."""

    async def ask():
        async with simulated_client(simulator) as client:
            found = []
            for row in rows_of(path):
                asked = {name: value for name, value in row.params.items() if name != "max_tokens"}
                found.append((await client.messages.count_tokens(**asked)).input_tokens)
            return found

    return asyncio.run(ask())


@pytest.mark.simulator(Settings(rates=Rates()))
def test_counting_everything_is_exact(simulator, file_of):
    """With every row counted nothing is estimated any more."""
    path = file_of(*texts(60))
    found = counted(simulator, path, 60, 1_000)
    planned = plan(path, NO, Limits(), found)
    assert found.rows == 60
    assert found.models[MODEL].error == 0
    whole = pytest.approx(sum(truth(simulator, path)))
    assert (planned.input_tokens.low, planned.input_tokens.guess, planned.input_tokens.high) == (whole,) * 3


@pytest.mark.simulator(Settings(rates=Rates()))
def test_counting_some_rows_narrows_the_range(simulator, file_of):
    """The truth lies in the range, which is much narrower than that of the estimate alone."""
    path = file_of(*texts(900))
    found = counted(simulator, path, 900, 60)
    before, after = plan(path, NO, Limits()).input_tokens, plan(path, NO, Limits(), found).input_tokens
    assert after.low < sum(truth(simulator, path)) < after.high
    assert (after.high - after.low) / after.guess < 0.7 * (before.high - before.low) / before.guess


def test_counted_rows_are_spread_evenly_and_by_chance():
    """One of each part of the file, and not always the same one of those that take turns."""
    chosen = sampled_positions(1_000, 100)
    assert [place // 10 for place in chosen] == list(range(100))
    assert len({place % 10 for place in chosen}) == 10
    assert chosen == sampled_positions(1_000, 100)
    assert sampled_positions(7, 7) == list(range(7))


@pytest.mark.simulator(Settings(rates=Rates()))
def test_standard_error_is_that_of_the_textbook(simulator, file_of):
    """Residuals of the sampled rows over the mean estimate, less for what has been counted of the whole."""
    path = file_of(*texts(100))
    found = counted(simulator, path, 100, 25).models[MODEL]
    counts, estimates = truth(simulator, path), guesses(path)
    pairs = [(counts[place], estimates[place]) for place in sampled_positions(100, 25)]
    ratio = sum(one for one, _ in pairs) / sum(other for _, other in pairs)
    squares = sum((one - ratio * other) ** 2 for one, other in pairs)
    mean = sum(other for _, other in pairs) / 25
    error = (squares / 24 / 25 * (1 - 25 / 100)) ** 0.5 / mean
    assert found.rows == 25
    assert found.ratio == pytest.approx(ratio)
    assert found.error == pytest.approx(error / ratio)


@pytest.mark.simulator(Settings(rates=Rates()))
def test_models_are_counted_apart(simulator, file_of):
    """Each model has a ratio of its own; one that was met once has no error of its own."""
    path = file_of(*texts(30), *[asking("x" * 500, model="claude-opus-4-8")])
    found = counted(simulator, path, 31, 31)
    assert {model: ratio.rows for model, ratio in found.models.items()} == {MODEL: 30, "claude-opus-4-8": 1}
    alone = counted(simulator, path, 31, 1).models[MODEL]
    assert (alone.rows, alone.error) == (1, None)
    inputs = plan(path, NO, Limits(), TokenSample(1, {MODEL: alone})).models[0].input_tokens
    assert inputs.high == pytest.approx(1.3 * inputs.guess)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failed("failed: invalid x-api-key", kind=FailureKind.AUTHENTICATION, attempts=1, status=401), 401),
        (Stopped("no API key", kind=FailureKind.AUTHENTICATION), None),
    ],
)
def test_a_refused_count_names_the_row_and_why(file_of, error, status):
    """What the executor says is passed on, and the prompt is not; nothing is counted any more."""
    asked = []

    async def refuse(params):
        asked.append(params)
        raise error

    with pytest.raises(NotCounted) as caught:
        asyncio.run(count_tokens(file_of(*texts(50)), NO, rows=50, sample=50, count=refuse))
    assert caught.value.status == status
    assert re.fullmatch(
        r"the API did not count row 'r\d+': (invalid x-api-key|no API key)", str(caught.value)
    )
    assert len(asked) <= 20


def test_nothing_shows_a_prompt():
    """The repr of what plans are made of shows no prompt."""
    row = Row("a", asking("the secret prompt"))
    assert "secret" not in repr(row)
    assert "secret" not in repr(Estimate.of({"model": MODEL, "max_tokens": 1, **row.params}))
