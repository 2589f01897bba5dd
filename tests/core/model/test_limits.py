"""Declared limits, and which models share them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.model.limits import (
    COUNT_TOKENS,
    DEFAULT,
    Limits,
    cache_reads_count,
    normalized,
    pool_of,
)

POOLS = [
    # each of these has a pool of its own
    ("claude-opus-5-5", "opus-5.5"),
    ("claude-opus-5", "opus-5"),
    ("claude-sonnet-5-5", "sonnet-5.5"),
    ("claude-sonnet-5", "sonnet-5"),
    ("claude-haiku-5-5", "haiku-5.5"),
    ("claude-haiku-4-5", "haiku-4.5"),
    # point releases that share one
    ("claude-opus-4-8", "opus-4"),
    ("claude-opus-4-7", "opus-4"),
    ("claude-opus-4-6", "opus-4"),
    ("claude-opus-4-5", "opus-4"),
    ("claude-opus-4-1-20250805", "opus-4"),
    ("claude-opus-4-20250514", "opus-4"),
    ("claude-sonnet-4-6", "sonnet-4"),
    ("claude-sonnet-4-5", "sonnet-4"),
    ("claude-sonnet-4-20250514", "sonnet-4"),
    ("claude-fable-5-1", "fable-5"),
    ("claude-fable-5", "fable-5"),
    ("claude-mythos-5-1", "mythos-5"),
    ("claude-mythos-5", "mythos-5"),
    # dated, and "latest"
    ("claude-haiku-4-5-20251001", "haiku-4.5"),
    ("claude-haiku-5-5-20261008", "haiku-5.5"),
    ("claude-sonnet-4-5-20250929", "sonnet-4"),
    ("claude-opus-5-20260901", "opus-5"),
    ("claude-haiku-5-5-latest", "haiku-5.5"),
    # names as they were until 3.7
    ("claude-3-5-haiku-20241022", "haiku-3.5"),
    ("claude-3-5-haiku-latest", "haiku-3.5"),
    ("claude-3-7-sonnet-20250219", "sonnet-3.7"),
    ("claude-3-5-sonnet-20241022", "sonnet-3.5"),
    ("claude-3-opus-20240229", "opus-3"),
    ("claude-3-haiku-20240307", "haiku-3"),
    # cloud platforms
    ("anthropic.claude-opus-4-8-v1:0", "opus-4"),
    ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "haiku-4.5"),
    ("global.anthropic.claude-sonnet-5-5", "sonnet-5.5"),
    ("anthropic.claude-sonnet-5-v1:0", "sonnet-5"),
    ("anthropic.claude-3-5-haiku-20241022-v1:0", "haiku-3.5"),
    ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-5-5-v1:0", "opus-5.5"),
    ("claude-haiku-4-5@20251001", "haiku-4.5"),
    ("claude-opus-4@20250514", "opus-4"),
    ("publishers/anthropic/models/claude-sonnet-5", "sonnet-5"),
    # what nobody has heard of
    ("my-own-model", "my-own-model"),
    ("claude-instant-1.2", "claude-instant-1.2"),
]


@pytest.mark.parametrize(("model", "pool"), POOLS)
def test_a_model_is_counted_in_its_pool(model, pool):
    """Plain, dated, old and cloud ids all lead to the pool; an unknown model has one of its own."""
    assert pool_of(model) == pool


@pytest.mark.parametrize("pool", sorted({pool for _, pool in POOLS}))
def test_the_name_of_a_pool_names_that_pool(pool):
    """Limits may be declared by pool as well as by model."""
    assert pool_of(pool) == pool


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_pool(text):
    """No model id is refused, and a pool's name is stable."""
    assert pool_of(pool_of(text)) == pool_of(text)


def test_cache_reads_count_for_one_old_model_only():
    """Haiku 3.5 counts reads from the prompt cache; nothing current does."""
    assert [pool for _, pool in POOLS if cache_reads_count(pool)] == ["haiku-3.5"] * 3


@pytest.mark.parametrize("name", ["rpm", "tpm", "itpm", "otpm", "burst"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "50", 0.0, [1]])
def test_a_limit_is_a_positive_number(name, value):
    """The message names the limit, its unit and the value, and says how to leave it open."""
    unit = "seconds" if name == "burst" else "a minute"
    with pytest.raises(ValueError, match=rf"{name} must be a positive number \({unit}\), got .*leave it out"):
        Limits(**{name: value})


def test_what_is_not_declared_is_open():
    """No limit has a default; any positive number will do, also a fraction."""
    assert Limits() == Limits(rpm=None, tpm=None, itpm=None, otpm=None, burst=None)
    assert Limits(rpm=0.5, burst=1).rpm == 0.5


@pytest.mark.parametrize(
    ("tier", "general", "fable", "old_haiku", "counting"),
    [
        ("start", (1_000, 2_000_000, 400_000), (1_000, 500_000, 100_000), (1_000, 100_000, 20_000), 5_000),
        (
            "build",
            (5_000, 5_000_000, 1_000_000),
            (2_000, 1_500_000, 300_000),
            (2_000, 200_000, 40_000),
            10_000,
        ),
        (
            "scale",
            (10_000, 10_000_000, 2_000_000),
            (4_000, 4_000_000, 800_000),
            (4_000, 400_000, 80_000),
            20_000,
        ),
    ],
)
def test_tiers_are_the_published_ones(tier, general, fable, old_haiku, counting):
    """A tier is a mapping with an entry for all pools, one for each that differs, one for counting tokens."""
    found = {pool: (x.rpm, x.itpm, x.otpm) for pool, x in Limits.tier(tier).items()}
    assert found.pop(COUNT_TOKENS) == (counting, None, None)
    assert found == {DEFAULT: general, "fable-5": fable, "haiku-3.5": old_haiku}
    assert Limits.tier(tier.upper()) is Limits.tier(tier)


def test_the_evaluation_tier_declares_nothing():
    """Its numbers are not published, so everything is learned."""
    assert dict(Limits.tier("evaluation")) == {DEFAULT: Limits()}


def test_an_unknown_tier_is_refused_with_the_known_ones():
    """The message lists what there is."""
    with pytest.raises(ValueError, match="no tier '4'; the tiers are evaluation, start, build, scale"):
        Limits.tier("4")


def test_a_tier_cannot_be_changed():
    """What is shared by everybody is read-only."""
    with pytest.raises(TypeError):
        Limits.tier("start")[DEFAULT] = Limits()


def test_limits_by_model_become_limits_by_pool():
    """Keys may be models, pools or the star; one `Limits` is for all."""
    one, other = Limits(rpm=1), Limits(rpm=2)
    assert normalized(one) == {DEFAULT: one}
    assert normalized({"claude-opus-4-8": one, "haiku-5.5": other, "*": one}) == {
        "opus-4": one,
        "haiku-5.5": other,
        DEFAULT: one,
    }


def test_two_models_of_one_pool_must_agree():
    """The same limits twice are fine, different ones are not."""
    same = {"claude-opus-4-8": Limits(rpm=1), "claude-opus-4-5": Limits(rpm=1)}
    assert normalized(same) == {"opus-4": Limits(rpm=1)}
    with pytest.raises(ValueError, match="'claude-opus-4-5' shares the limits of pool 'opus-4'"):
        normalized({"claude-opus-4-8": Limits(rpm=1), "claude-opus-4-5": Limits(rpm=2)})


@pytest.mark.parametrize("wrong", [50, None, [Limits()], {"claude-opus-5": 50}])
def test_limits_are_limits(wrong):
    """Anything else is a TypeError that says what was given."""
    with pytest.raises(TypeError, match=r"limits .*got "):
        normalized(wrong)
