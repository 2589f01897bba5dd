"""Shared prompt prefixes: one request warms the cache, the others wait for it.

A prefix marked with `cache_control` counts in full towards the input limit while the cache is cold, and not
at all once an answer that wrote or read it has begun. A thousand requests that start together with a cold
prefix would all pay for it. So one of them leads, and the others with its prefix wait for it, for a while.
"""

import math
from collections import OrderedDict

from claude_executor.core.model.cost import NOTHING_USED, Usage
from claude_executor.core.model.job import Job
from claude_executor.core.model.request import RequestShape

CACHE_LIFETIME = 300.0
"""Seconds that a cache entry lives after its last use."""
MIN_PREFIX_BYTES = 4_000
"""Least bytes of a prefix worth caching: the API caches from 1,024 tokens for most models."""
MAX_WAIT = 60.0
"""Seconds for which requests wait for the one that leads."""
MAX_PREFIXES = 4_096
"""Prefixes remembered at the same time."""

_Key = tuple[str, bytes]


class PromptCacheTracker:
    """Warm, cold and pending prefixes, by model."""

    __slots__ = ("_cold_until", "_leaders", "_warm_until")

    def __init__(self) -> None:
        self._warm_until: OrderedDict[_Key, float] = OrderedDict()
        self._cold_until: OrderedDict[_Key, float] = OrderedDict()  # prefixes that the API does not cache
        self._leaders: dict[_Key, Job] = {}

    def is_warm(self, shape: RequestShape, now: float) -> bool:
        """Whether the cache is believed to contain the prefix."""
        key = _key(shape)
        return key is not None and self._warm_until.get(key, -math.inf) > now

    def should_wait(self, job: Job, now: float) -> bool:
        """Whether the job should wait for another one that is writing its prefix to the cache."""
        leader = self._leader_of(job)
        if leader is None or job.attempts or job.priority > leader.priority:
            return False
        return now < leader.sent_at + MAX_WAIT < job.deadline_at

    def wait_until(self, job: Job) -> float:
        """Return the instant until which the job should wait at most; minus infinity if it should not."""
        leader = self._leader_of(job)
        return -math.inf if leader is None else leader.sent_at + MAX_WAIT

    def _leader_of(self, job: Job) -> Job | None:
        key = _key(job.shape)
        leader = None if key is None else self._leaders.get(key)
        return leader if leader is not None and leader.running else None

    def on_start(self, job: Job, now: float) -> None:
        """Count an attempt that starts; it leads if its prefix is new."""
        key = _key(job.shape)
        if (
            key is not None
            and self._leader_of(job) is None
            and job.shape.prefix_bytes >= MIN_PREFIX_BYTES
            and self._warm_until.get(key, -math.inf) <= now
            and self._cold_until.get(key, -math.inf) <= now
        ):
            self._leaders[key] = job

    def on_response(self, job: Job, usage: Usage | None, now: float) -> bool:
        """Learn from an attempt that ended or whose answer began. Return whether jobs may wait no longer."""
        key = _key(job.shape)
        if key is None:
            return False
        warmed = False
        if usage is not None and usage != NOTHING_USED:
            cached = usage.cache_creation_tokens or usage.cache_read_tokens
            remembered = self._warm_until if cached else self._cold_until
            warmed = bool(cached) and self._warm_until.get(key, -math.inf) <= now
            remembered[key] = now + CACHE_LIFETIME
            remembered.move_to_end(key)
            if len(remembered) > MAX_PREFIXES:
                remembered.popitem(last=False)  # the least recently used one
        if self._leaders.get(key) is job:
            del self._leaders[key]
            return True
        return warmed


def _key(shape: RequestShape) -> _Key | None:
    return None if shape.prefix is None else (shape.model, shape.prefix)
