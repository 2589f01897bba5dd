"""Ray: a pool of actors, each with one executor for as long as it lives."""

from collections.abc import Iterator, Sequence

import ray
from ray.util import ActorPool

from claude_executor import RedisBudget
from claude_executor.sync import Executor
from examples.engines.batch import Row, answer, batches


@ray.remote(max_concurrency=2)  # the next batch begins while the last rows of one are still under way
class Worker:
    def __init__(self, shared: str) -> None:
        self._executor = Executor(budget=RedisBudget(shared, group="team-a")).__enter__()

    def answer(self, rows: Sequence[Row]) -> list[Row]:
        return answer(self._executor, rows)

    def leave(self) -> None:
        self._executor.__exit__(None, None, None)


def answers(rows: Sequence[Row], workers: int, shared: str, batch: int = 200) -> Iterator[Row]:
    """The outcomes of all rows, as they come."""
    actors = [Worker.remote(shared) for _ in range(workers)]
    pool = ActorPool(actors * 2)  # two batches at once for each
    for outcomes in pool.map_unordered(lambda actor, part: actor.answer.remote(part), batches(rows, batch)):
        yield from outcomes
    ray.get([actor.leave.remote() for actor in actors])
