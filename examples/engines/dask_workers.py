"""Dask: a plugin gives each worker one executor for its whole life."""

from collections.abc import Iterator, Sequence

from distributed import Client, Worker, WorkerPlugin, as_completed, get_worker

from claude_executor import RedisBudget
from claude_executor.sync import Executor
from examples.engines.batch import Row, answer, batches


class Claude(WorkerPlugin):
    name = "claude"

    def __init__(self, shared: str) -> None:
        self._shared = shared

    def setup(self, worker: Worker) -> None:
        self.executor = Executor(budget=RedisBudget(self._shared, group="team-a")).__enter__()

    def teardown(self, worker: Worker) -> None:
        self.executor.__exit__(None, None, None)


def answer_here(rows: Sequence[Row]) -> list[Row]:
    return answer(get_worker().plugins["claude"].executor, rows)


def answers(rows: Sequence[Row], client: Client, shared: str, batch: int = 200) -> Iterator[Row]:
    """Yield the outcomes of all rows as they finish. Give workers two threads, so that batches overlap."""
    client.register_plugin(Claude(shared))
    tasks = client.map(answer_here, list(batches(rows, batch)), pure=False)
    for _, outcomes in as_completed(tasks, with_results=True):
        yield from outcomes
