"""Ray: a pool of actors, each with one executor for its whole life."""

from collections.abc import Iterator, Sequence

import ray
from ray.util import ActorPool

from claude_executor import RedisBudget
from claude_executor.sync import Executor
from examples.engines.batch import Row, answer, batches


@ray.remote(max_concurrency=2)  # two batches at a time: one starts while the last rows of the other finish
class Worker:
    def __init__(self, shared: str) -> None:
        self._executor = Executor(budget=RedisBudget(shared, group="team-a")).__enter__()

    def answer(self, rows: Sequence[Row]) -> list[Row]:
        return answer(self._executor, rows)

    def close(self) -> None:
        self._executor.__exit__(None, None, None)


def answers(rows: Sequence[Row], workers: int, shared: str, batch: int = 200) -> Iterator[Row]:
    """Yield the outcomes of all rows as they finish."""
    actors = [Worker.remote(shared) for _ in range(workers)]
    pool = ActorPool(actors * 2)  # two batches at a time for each actor
    for outcomes in pool.map_unordered(lambda actor, part: actor.answer.remote(part), batches(rows, batch)):
        yield from outcomes
    ray.get([actor.close.remote() for actor in actors])
