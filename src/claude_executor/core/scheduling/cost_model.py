"""The cost model: what a job is expected to cost its pool, and which size class that puts it in."""

import math

from claude_executor.core.control.cost_estimator import CostEstimator
from claude_executor.core.control.prompt_cache import PromptCacheTracker
from claude_executor.core.model.cost import Cost, Usage
from claude_executor.core.model.job import Job
from claude_executor.core.pool.pool import Pool


class CostModel:
    """Estimates the cost of jobs, and learns from every answer.

    Attributes:
        prompt_cache: Which prefixes the prompt cache holds.
    """

    __slots__ = ("_estimator", "prompt_cache")

    def __init__(self, *, reserve_max_tokens: bool) -> None:
        self._estimator = CostEstimator(reserve_max_tokens=reserve_max_tokens)
        self.prompt_cache = PromptCacheTracker()

    def on_queued(self, job: Job, pool: Pool, now: float) -> None:
        """Estimate a job before it joins its queue, which mixes size classes."""
        self.refresh(job, pool, now)
        seconds, resource, _ = job.demand
        job.size_class = (
            resource,
            math.frexp(seconds)[1] // 3,
        )  # alike: the same resource, within a factor of 8
        job.charge = 0.0 if job.attempts else seconds

    def refresh(self, job: Job, pool: Pool, now: float) -> None:
        """Estimate a job again: more is known now than when it was queued."""
        shape = job.shape
        job.cost = cost = self._estimator.cost(
            shape, cached=shape.prefix is not None and self.prompt_cache.is_warm(shape, now)
        )
        job.demand = pool.demand(cost)

    def on_start(self, job: Job) -> None:
        """Charge a job that starts to its flow in the queue; only its first attempt counts."""
        if not job.attempts:
            job.charge, resource, _ = job.demand
            job.charged = job.charge if resource else None

    def on_response(self, job: Job, pool: Pool, usage: Usage, actual: Cost) -> None:
        """Learn from the usage of an answered job, and correct what its flow was charged."""
        # The usage of several requests says nothing about one, unless the same size was given as their cost.
        if not job.composite or job.shape.expected_output is not None:
            self._estimator.learn(job.shape, usage)
        if job.charged is not None:
            pool.queue.adjust(job, pool.demand(actual).seconds - job.charged)
