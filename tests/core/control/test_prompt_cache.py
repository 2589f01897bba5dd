"""Prompts that begin alike."""

import pytest
from tests.core.factories import HAIKU, a_job, a_shape

from claude_executor.core.control.prompt_cache import (
    CACHE_LIFETIME,
    MAX_PREFIXES,
    MAX_WAIT,
    PromptCacheTracker,
)
from claude_executor.core.model.cost import NOTHING_USED, Usage
from claude_executor.core.model.job import Phase
from claude_executor.core.model.request import RequestShape

WRITTEN = Usage(input_tokens=10, output_tokens=5, cache_creation_tokens=2_000)
READ = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=2_000)
UNCACHED = Usage(input_tokens=2_010, output_tokens=5)


def a_prefixed(number=1, *, prefix=b"p", prefix_bytes=8_000, model=HAIKU):
    """A job whose prompt begins with a marked prefix."""
    job = a_job(number, phase=Phase.RUNNING)
    job.shape = RequestShape(model, 500, prefix_bytes + 50, 14, prefix, prefix_bytes)
    return job


def run(prefixes, job, usage, started_at=0.0, ended_at=1.0):
    """One whole attempt; whether others have waited for it."""
    job.sent_at = started_at
    prefixes.on_start(job, started_at)
    return prefixes.on_response(job, usage, ended_at)


@pytest.mark.parametrize("usage", [WRITTEN, READ])
def test_a_prefix_is_warm_while_the_cache_lives(usage):
    """After an answer that wrote or read it; for the same model and the same text."""
    prefixes = PromptCacheTracker()
    shape = a_prefixed().shape
    assert not prefixes.is_warm(shape, 0.0)
    run(prefixes, a_prefixed(), usage, 0.0, 10.0)
    assert prefixes.is_warm(shape, 9.0 + CACHE_LIFETIME)
    assert not prefixes.is_warm(shape, 10.0 + CACHE_LIFETIME)
    assert not prefixes.is_warm(a_prefixed(prefix=b"q").shape, 11.0)
    assert not prefixes.is_warm(a_prefixed(model="claude-sonnet-5").shape, 11.0)
    assert not prefixes.is_warm(a_shape(), 11.0)


def test_one_goes_ahead_and_the_others_follow():
    """Until it has been answered, or has taken too long; and those without that prefix follow nobody."""
    prefixes, leader, other = PromptCacheTracker(), a_prefixed(1), a_prefixed(2)
    assert not prefixes.should_wait(leader, 0.0)
    prefixes.on_start(leader, 0.0)
    assert prefixes.should_wait(other, 1.0)
    assert not prefixes.should_wait(other, MAX_WAIT)
    assert not prefixes.should_wait(a_prefixed(3, prefix=b"q"), 1.0)
    assert not prefixes.should_wait(a_job(4), 1.0)
    assert prefixes.on_response(leader, WRITTEN, 2.0)
    assert not prefixes.should_wait(other, 2.0)


def test_who_tries_again_follows_nobody():
    """It has waited for its turn before."""
    prefixes, other = PromptCacheTracker(), a_prefixed(2)
    prefixes.on_start(a_prefixed(1), 0.0)
    other.attempts = 1
    assert not prefixes.should_wait(other, 1.0)


def test_nobody_waits_for_a_prefix_that_the_cache_does_not_take():
    """Too short for it, by its bytes or by what came of it."""
    prefixes = PromptCacheTracker()
    prefixes.on_start(a_prefixed(1, prefix_bytes=1_000), 0.0)
    assert not prefixes.should_wait(a_prefixed(2, prefix_bytes=1_000), 0.0)
    run(prefixes, a_prefixed(3), UNCACHED)
    prefixes.on_start(a_prefixed(4), 2.0)
    assert not prefixes.should_wait(a_prefixed(5), 2.0)
    assert not prefixes.is_warm(a_prefixed().shape, 2.0)


@pytest.mark.parametrize("used", [None, NOTHING_USED])
def test_after_a_failure_the_next_one_goes_ahead(used):
    """A failed attempt says nothing about the cache."""
    prefixes = PromptCacheTracker()
    assert run(prefixes, a_prefixed(1), used)
    assert not prefixes.should_wait(a_prefixed(2), 1.0)
    prefixes.on_start(a_prefixed(2), 1.0)
    assert prefixes.should_wait(a_prefixed(3), 1.0)


def test_only_the_one_that_went_ahead_frees_the_others():
    """Or whoever shows that the cache has it."""
    prefixes, leader, early = PromptCacheTracker(), a_prefixed(1), a_prefixed(2)
    prefixes.on_start(leader, 0.0)
    prefixes.on_start(early, 0.5)  # it goes ahead of nobody
    assert not prefixes.on_response(early, None, 1.0)
    assert not prefixes.on_response(a_job(3), UNCACHED, 1.0)
    assert prefixes.should_wait(a_prefixed(4), 1.0)
    assert prefixes.on_response(early, WRITTEN, 2.0)
    assert not prefixes.on_response(early, WRITTEN, 3.0)
    assert prefixes.on_response(leader, WRITTEN, 4.0)


def test_who_is_in_a_hurry_follows_nobody():
    """Neither the more urgent nor those whose deadline would pass meanwhile."""
    prefixes, leader = PromptCacheTracker(), a_prefixed(1)
    prefixes.on_start(leader, 0.0)
    urgent, hasty, patient = a_prefixed(2), a_prefixed(3), a_prefixed(4)
    urgent.priority, hasty.deadline_at, patient.deadline_at = 1, MAX_WAIT - 1.0, MAX_WAIT + 1.0
    assert [prefixes.should_wait(job, 1.0) for job in (urgent, hasty, patient)] == [False, False, True]
    assert prefixes.wait_until(patient) == MAX_WAIT


def test_nobody_leads_while_the_first_is_still_on_its_way():
    """After their patience the others all go, not one a minute."""
    prefixes, leader = PromptCacheTracker(), a_prefixed(1)
    prefixes.on_start(leader, 0.0)
    prefixes.on_start(a_prefixed(2), MAX_WAIT)
    assert not prefixes.should_wait(a_prefixed(3), MAX_WAIT + 1.0)


def test_old_prefixes_are_forgotten():
    """Endlessly many different ones do not fill the memory."""
    prefixes = PromptCacheTracker()
    for n in range(3 * MAX_PREFIXES):
        run(prefixes, a_prefixed(prefix=str(n).encode()), WRITTEN if n % 2 else UNCACHED, n, n + 0.5)
    assert len(prefixes._warm_until) <= MAX_PREFIXES
    assert len(prefixes._cold_until) <= MAX_PREFIXES
    assert not prefixes._leaders
    for n in range(3 * MAX_PREFIXES):
        run(prefixes, a_prefixed(prefix=str(n).encode()), WRITTEN, 0.0, 1.0)
    assert len(prefixes._warm_until) <= MAX_PREFIXES
