"""Ray Data: `map_batches` with a class, whose actors each have one executor for their whole life."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from claude_executor import RedisBudget
from claude_executor.sync import Executor
from examples.engines.batch import Row, answer

OUTCOME = pa.schema([(name, pa.string()) for name in ("id", "text", "error")])


class AnswerBatch:
    def __init__(self, shared: str) -> None:
        self._executor = Executor(budget=RedisBudget(shared, group="team-a")).__enter__()

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist(answer(self._executor, batch.to_pylist()), schema=OUTCOME)


def answers(rows: Sequence[Row], workers: int, shared: str, batch: int = 500) -> Iterator[Row]:
    """Yield the outcomes of all rows as they finish."""
    data = ray.data.from_items(list(rows), override_num_blocks=max(1, len(rows) // batch)).map_batches(
        AnswerBatch,
        fn_constructor_args=(shared,),
        batch_size=batch,  # large: the executor runs out of work towards the end of a batch
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        max_concurrency=2,  # the next batch starts before this one ends
        num_cpus=0.5,  # the worker mostly waits
    )
    yield from data.iter_rows()
