"""What a job costs its pool, and what that makes it in the line."""

import math

from claude_executor.core.control.cost_estimator import Estimator
from claude_executor.core.control.prompt_cache import PromptCacheTracker
from claude_executor.core.model.cost import Cost, Usage
from claude_executor.core.model.job import Job
from claude_executor.core.pool.pool import Pool


class Pricing:
    """Prices jobs, and gets better at it with every answer."""

    __slots__ = ("_estimator", "prefixes")

    def __init__(self, *, reserve_max_tokens: bool) -> None:
        self._estimator = Estimator(reserve_max_tokens=reserve_max_tokens)
        self.prefixes = PromptCacheTracker()

    def join(self, job: Job, pool: Pool, now: float) -> None:
        """Before it joins the line, which mixes jobs by what they need."""
        self.renew(job, pool, now)
        seconds, resource, _ = job.need
        job.build = (resource, math.frexp(seconds)[1] // 3)  # alike: the same resource, within a factor of 8
        job.charge = 0.0 if job.attempts else seconds

    def renew(self, job: Job, pool: Pool, now: float) -> None:
        """When its turn comes near: more is known now than when it joined."""
        shape = job.shape
        job.cost = cost = self._estimator.cost(
            shape, cached=shape.prefix is not None and self.prefixes.is_warm(shape, now)
        )
        job.need = pool.demand(cost)

    def start(self, job: Job) -> None:
        """As it starts; only its first attempt is charged to its flow in the line."""
        if not job.attempts:
            job.charge, resource, _ = job.need
            job.charged = job.charge if resource else None

    def answered(self, job: Job, pool: Pool, usage: Usage, actual: Cost) -> None:
        """It took so much: learn from it, and put right what its flow was charged."""
        # What several requests took says nothing of one, but of other calls for which as much was told.
        if not job.composite or job.shape.output_told is not None:
            self._estimator.learn(job.shape, usage)
        if job.charged is not None:
            pool.queue.adjust(job, pool.demand(actual).seconds - job.charged)
