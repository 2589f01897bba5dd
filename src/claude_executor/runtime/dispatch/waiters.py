"""The callers that wait for the start of their requests."""

import asyncio

from claude_executor.core.model.actions import Refuse, Start
from claude_executor.core.model.job import Job
from claude_executor.runtime.raising import rejection


class Waiters:
    """Callers that wait for the start of an attempt, each on one future.

    The scheduler may decide about a job before its caller begins to wait. The caller then finds the start in
    the job itself, and a refusal here.
    """

    __slots__ = ("_refused", "_starts")

    def __init__(self) -> None:
        self._starts: dict[Job, asyncio.Future[None]] = {}
        self._refused: dict[Job, Refuse] = {}

    def start_of(self, job: Job, cause: Exception | None) -> "asyncio.Future[None] | None":
        """Return the future of a job's start; None if the job has started.

        Args:
            job: The job. Its caller ends the wait with `forget`.
            cause: The exception of its last attempt; None before the first.

        Raises:
            ExecutorError: The job has been refused.
        """
        refused = self._refused.pop(job, None)
        if refused is not None:
            raise rejection(refused) from cause
        if job.running:
            return None
        self._starts[job] = start = asyncio.get_running_loop().create_future()
        return start

    def forget(self, job: Job) -> None:
        """Drop the future of a job whose caller no longer waits."""
        self._starts.pop(job, None)

    def resolve(self, decision: Start | Refuse) -> None:
        """Pass a decision of the scheduler to the caller of its job."""
        start = self._starts.get(decision.job)
        if start is None:  # the caller does not wait yet, and looks here and at the job before it does
            if isinstance(decision, Refuse):
                self._refused[decision.job] = decision
        elif not start.done():
            if isinstance(decision, Refuse):
                start.set_exception(rejection(decision))
            else:
                start.set_result(None)
