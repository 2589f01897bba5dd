"""Ray Data: `map_batches` with a class, which is an actor with one executor for as long as it lives."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from claude_executor import RedisBudget
from claude_executor.sync import Executor
from examples.engines.batch import Row, answer

OUTCOME = pa.schema([(name, pa.string()) for name in ("id", "text", "error")])


class Answered:
    def __init__(self, shared: str) -> None:
        self._executor = Executor(budget=RedisBudget(shared, group="team-a")).__enter__()

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist(answer(self._executor, batch.to_pylist()), schema=OUTCOME)


def answers(rows: Sequence[Row], workers: int, shared: str, batch: int = 500) -> Iterator[Row]:
    """The outcomes of all rows, as they come."""
    data = ray.data.from_items(list(rows), override_num_blocks=max(1, len(rows) // batch)).map_batches(
        Answered,
        fn_constructor_args=(shared,),
        batch_size=batch,  # large: at the end of a batch an executor has less and less to do
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        max_concurrency=2,  # and so that the next batch begins before that end
        num_cpus=0.5,  # it waits more than it works
    )
    yield from data.iter_rows()
