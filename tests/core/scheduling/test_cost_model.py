"""What a job costs, and what that makes it in the line."""

from tests.core.factories import a_job, a_shape

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.limits import DEFAULT, Limits
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.cost_model import CostModel


def a_pool():
    """Where a thousand input tokens take as long as a hundred of output."""
    limits = {DEFAULT: Limits(itpm=60_000, otpm=6_000)}
    return Pool("haiku-5.5", limits, ceiling=9, breaker=BreakerPolicy(), now=0.0)


def priced(pricing, pool, **shape):
    """A job that joins the line."""
    job = a_job(charge=0.0)
    job.shape = a_shape(**shape)
    pricing.on_queued(job, pool, 0.0)
    return job


def test_jobs_are_alike_that_need_the_same_about_as_much():
    """By the resource they need most, within a factor of eight."""
    pricing, pool = CostModel(reserve_max_tokens=True), a_pool()
    small = priced(pricing, pool, max_tokens=1)
    large = priced(pricing, pool, max_tokens=1, text_bytes=200_000)
    talker = priced(pricing, pool, max_tokens=8_000)
    assert small.size_class[0] == large.size_class[0] == "input tokens"
    assert talker.size_class[0] == "output tokens"
    assert len({small.size_class, large.size_class, talker.size_class}) == 3
    assert priced(pricing, pool, max_tokens=1, text_bytes=2_600).size_class == small.size_class


def test_only_the_first_attempt_is_charged():
    """Who comes back has paid for its turn."""
    pricing, pool = CostModel(reserve_max_tokens=False), a_pool()
    job = priced(pricing, pool)
    assert job.charge > 0.0
    pricing.on_start(job)
    assert job.charged == job.charge == pool.demand(job.cost).seconds
    job.attempts = 1
    pricing.on_queued(job, pool, 1.0)
    assert job.charge == 0.0


def test_answers_teach_and_put_the_charge_right():
    """The next of a tenant who took more than expected waits the longer."""
    pricing, pool = CostModel(reserve_max_tokens=False), a_pool()
    greedy, modest = priced(pricing, pool), priced(pricing, pool)
    greedy.tenant, modest.tenant = "greedy", "modest"
    for job in (greedy, modest):
        pool.queue.push(job)
    before = greedy.cost
    pricing.on_start(greedy)
    usage = Usage(1_000, 5_000)
    pricing.on_response(greedy, pool, usage, usage.cost())
    pool.queue.pop()
    pricing.refresh(modest, pool, 1.0)
    assert modest.cost.output_tokens > before.output_tokens
    late = priced(pricing, pool)
    late.tenant = "modest"
    again = priced(pricing, pool)
    again.tenant = "greedy"
    pool.queue.push(again)
    pool.queue.push(late)
    assert [pool.queue.pop().tenant for _ in range(3)] == ["modest", "modest", "greedy"]
