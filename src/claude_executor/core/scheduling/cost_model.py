"""What a job costs its pool, and what that makes it in the line."""

import math

from claude_executor.core.control.cost_estimator import CostEstimator
from claude_executor.core.control.prompt_cache import PromptCacheTracker
from claude_executor.core.model.cost import Cost, Usage
from claude_executor.core.model.job import Job
from claude_executor.core.pool.pool import Pool


class CostModel:
    """Prices jobs, and gets better at it with every answer."""

    __slots__ = ("_estimator", "prompt_cache")

    def __init__(self, *, reserve_max_tokens: bool) -> None:
        self._estimator = CostEstimator(reserve_max_tokens=reserve_max_tokens)
        self.prompt_cache = PromptCacheTracker()

    def on_queued(self, job: Job, pool: Pool, now: float) -> None:
        """Before it joins the line, which mixes jobs by what they need."""
        self.refresh(job, pool, now)
        seconds, resource, _ = job.demand
        job.size_class = (
            resource,
            math.frexp(seconds)[1] // 3,
        )  # alike: the same resource, within a factor of 8
        job.charge = 0.0 if job.attempts else seconds

    def refresh(self, job: Job, pool: Pool, now: float) -> None:
        """When its turn comes near: more is known now than when it joined."""
        shape = job.shape
        job.cost = cost = self._estimator.cost(
            shape, cached=shape.prefix is not None and self.prompt_cache.is_warm(shape, now)
        )
        job.demand = pool.demand(cost)

    def on_start(self, job: Job) -> None:
        """As it starts; only its first attempt is charged to its flow in the line."""
        if not job.attempts:
            job.charge, resource, _ = job.demand
            job.charged = job.charge if resource else None

    def on_response(self, job: Job, pool: Pool, usage: Usage, actual: Cost) -> None:
        """It took so much: learn from it, and put right what its flow was charged."""
        # What several requests took says nothing of one, but of other calls for which as much was told.
        if not job.composite or job.shape.expected_output is not None:
            self._estimator.learn(job.shape, usage)
        if job.charged is not None:
            pool.queue.adjust(job, pool.demand(actual).seconds - job.charged)
