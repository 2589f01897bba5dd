"""Prompts that begin alike: who reads the cache, who writes it, and who had better wait.

A prefix marked with `cache_control` is charged in full while the cache is cold and not at all (of the input
limit) once an answer that wrote or read it has begun. A thousand requests that set out together with a cold
prefix would all pay for it. So one goes ahead, and those that share its prefix wait for it, for a while.
"""

import math
from collections import OrderedDict

from claude_executor.core.model.cost import NOTHING_USED, Usage
from claude_executor.core.model.job import Job
from claude_executor.core.model.request import RequestShape

CACHE_LIFETIME = 300.0
"""Seconds that the cache lives after its last use."""
MIN_PREFIX_BYTES = 4_000
"""Bytes of a prefix from which it may be long enough for the cache: 1,024 tokens for most models."""
MAX_WAIT = 60.0
"""Seconds for which the others wait for the one that goes ahead."""
MAX_PREFIXES = 4_096
"""Prefixes remembered at once."""

_Key = tuple[str, bytes]


class PromptCacheTracker:
    """What is known of prefixes, by model."""

    __slots__ = ("_cold_until", "_leaders", "_warm_until")

    def __init__(self) -> None:
        self._warm_until: OrderedDict[_Key, float] = OrderedDict()
        self._cold_until: OrderedDict[_Key, float] = OrderedDict()  # the cache does not take them
        self._leaders: dict[_Key, Job] = {}

    def is_warm(self, shape: RequestShape, now: float) -> bool:
        """Whether the cache is taken to have the prefix."""
        key = _key(shape)
        return key is not None and self._warm_until.get(key, -math.inf) > now

    def should_wait(self, job: Job, now: float) -> bool:
        """Whether `job` had better wait for another one that is writing its prefix to the cache."""
        leader = self._leader_of(job)
        if leader is None or job.attempts or job.priority > leader.priority:
            return False
        return now < leader.sent_at + MAX_WAIT < job.deadline_at

    def wait_until(self, job: Job) -> float:
        """Until when it had better wait, at most."""
        leader = self._leader_of(job)
        return -math.inf if leader is None else leader.sent_at + MAX_WAIT

    def _leader_of(self, job: Job) -> Job | None:
        key = _key(job.shape)
        leader = None if key is None else self._leaders.get(key)
        return leader if leader is not None and leader.running else None

    def on_start(self, job: Job, now: float) -> None:
        """An attempt starts; it goes ahead of the others if its prefix is new."""
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
        """An attempt is over, or its answer has begun; whether others have waited for that."""
        key = _key(job.shape)
        if key is None:
            return False
        news = False
        if usage is not None and usage != NOTHING_USED:
            cached = usage.cache_creation_tokens or usage.cache_read_tokens
            remembered = self._warm_until if cached else self._cold_until
            news = bool(cached) and self._warm_until.get(key, -math.inf) <= now
            remembered[key] = now + CACHE_LIFETIME
            remembered.move_to_end(key)
            if len(remembered) > MAX_PREFIXES:
                remembered.popitem(last=False)  # the one that was used least lately
        if self._leaders.get(key) is job:
            del self._leaders[key]
            return True
        return news


def _key(shape: RequestShape) -> _Key | None:
    return None if shape.prefix is None else (shape.model, shape.prefix)
