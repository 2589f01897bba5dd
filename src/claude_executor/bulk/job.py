"""A whole bulk job as one object: open it, plan it, run it, read the summary."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Self

from claude_executor import Limits
from claude_executor.bulk.costs.caps import CapDemand, spent_on
from claude_executor.bulk.costs.plan import Plan, plan
from claude_executor.bulk.costs.prices import NOTHING_SPENT, Prices
from claude_executor.bulk.costs.token_sample import count_tokens
from claude_executor.bulk.input.rows import rows_of
from claude_executor.bulk.input.sources import CancellableSource, Source
from claude_executor.bulk.job_files import JobFiles
from claude_executor.bulk.job_policy import JobPolicy
from claude_executor.bulk.job_target import validate_target
from claude_executor.bulk.results.pipe_writer import PipeWriter
from claude_executor.bulk.run.remaining import remaining
from claude_executor.bulk.run.resume import RemainingRows, Resumption
from claude_executor.bulk.run.run import Run, run_file, run_rows
from claude_executor.bulk.run.sort import sort_results
from claude_executor.bulk.run.summary import Summary, stop_reason, summarize

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager

    from claude_executor import Event, Executor, Params, Snapshot, SpendingCap
    from claude_executor.bulk.run.timeline import Timeline
    from claude_executor.bulk.run.validate import Survey

_DEFAULT_POLICY = JobPolicy()


class BulkJob:
    """A file of requests, a file of results, and every row in it exactly once; exported as `bulk.Job`.

    ::

        async with Job.open("rows.jsonl", "results.jsonl") as job:
            plan = await job.plan(Limits.tier("start"))
            async with Executor(on_event=job.on_event, spending_caps=job.spending_caps) as executor:
                summary = await job.run(executor)

    Entering the job locks and repairs the results, validates every row and compares both, before anything is
    sent. ``async with`` does this in a thread; plain ``with`` does it in the caller's. Opening the same files
    again resumes the job.

    Attributes:
        policy: How the job is to be done.
        source: The rows.
        survey: What the source holds.
        remaining: What is left to do, row by row.
        demand: What bounds the cost of the remaining rows, if there is a cap on money or tokens.
        spent_before: What earlier starts spent on answers, if there is such a cap.
        cap_reached: Whether that used up a cap, so that nothing may be sent.
        progress: Counts of the run, to watch while it lasts.
    """

    source: Source
    survey: Survey
    remaining: RemainingRows
    progress: Run

    def __init__(
        self,
        path: Path,
        target: Path | PipeWriter,
        policy: JobPolicy = _DEFAULT_POLICY,
        *,
        dry_run: bool = False,
    ) -> None:
        """Use `open`, which checks the target first."""
        self.policy = policy
        self.demand = CapDemand()
        self.spent_before = NOTHING_SPENT
        self.cap_reached = False
        self._target = target
        self._dry_run = dry_run
        self._files = JobFiles(path, target, overwrite=policy.overwrite, dry_run=dry_run)
        self._resumption: Resumption | None = None
        self._caps: tuple[SpendingCap, ...] = ()
        self._caps_given = False
        self._timeline: Timeline | None = None
        self._snapshot: Snapshot | None = None
        self._abandoned = threading.Event()
        self._handover = threading.Lock()
        self._is_open = False

    @classmethod
    def open(
        cls,
        source: Path | str,
        target: Path | str | PipeWriter | Callable[[bytes], None],
        policy: JobPolicy = _DEFAULT_POLICY,
        *,
        dry_run: bool = False,
    ) -> Self:
        """Return a job, to be entered with ``async with`` or ``with``.

        Args:
            source: The rows: a file, a named pipe, or ``-`` for standard input.
            target: The results: a file, or a function (or `PipeWriter`) that gets each line as it comes. Such
                a target cannot be resumed, sorted, deduplicated or retried.
            policy: How the job is to be done.
            dry_run: Lock and write nothing. The job can be planned, and not run.

        Raises:
            BadTarget: Results cannot go to the target.
            ValueError: The policy needs a results file.
        """
        path = Path(source)
        if isinstance(target, (str, Path)):
            file = Path(target)
            validate_target(path, file, failures_only=policy.failures_only)
            return cls(path, file, policy, dry_run=dry_run)
        for name in ("failures_only", "ordered", "dedupe"):
            if getattr(policy, name) and not dry_run:
                raise ValueError(f"{name} needs a results file as the target")
        pipe = target if isinstance(target, PipeWriter) else PipeWriter(target)
        return cls(path, pipe, policy, dry_run=dry_run)

    def __enter__(self) -> Self:
        """Open and compare both files in the caller's thread.

        Raises:
            BadInput: The rows are not valid; the error lists the problems.
            Changed: Answered rows have changed, and the policy is to fail then.
            FileBusy: Another process writes the results.
            NotResults: The target holds something else.
            ResultsNotWritable: The target cannot be written.
            Unpriced: There is a cap on money, and the price of a model is not known.
            OSError: A file cannot be read.
        """
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        self._is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Open and compare both files in a thread; see `__enter__`."""
        try:
            await asyncio.to_thread(self._enter_unless_abandoned)
        except asyncio.CancelledError:
            with self._handover:
                self._abandoned.set()
                if self._is_open:
                    self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is not yet on disk, and close the files."""
        self.close()

    def close(self) -> None:
        """Write what is not yet on disk, close the files and release the lock.

        Raises:
            OSError: The results cannot be written.
        """
        self._files.close()

    # ---- what is known before anything is sent

    @property
    def has_rows_to_send(self) -> bool:
        """Whether `run` would send anything."""
        return bool(self.remaining.to_do) and not self.cap_reached

    @property
    def spending_caps(self) -> tuple[SpendingCap, ...]:
        """Caps for the executor to keep: what earlier starts left of those on money and tokens."""
        self._caps_given = True
        return self._caps

    async def plan(
        self,
        limits: Limits | Mapping[str, Limits] | None = None,
        *,
        sample: int = 0,
        count: Callable[[Params], Awaitable[int]] | None = None,
    ) -> Plan:
        """Forecast tokens, cost and time of the remaining rows. No message is sent for it.

        Args:
            limits: The known limits, as for an `Executor`; without any the time is not known.
            sample: Count the input tokens of this many rows, instead of estimating them.
            count: Counts the input tokens of a request, such as `Executor.count_tokens`.

        Raises:
            NotCounted: A row could not be counted.
        """
        left = remaining(
            self.source,
            self.remaining.sends,
            self.policy.defaults,
            dedupe=self.policy.dedupe,
            results=self._files.reader,
        )
        counted = None
        if count is not None and sample and (rows := sum(left.sends)):
            counted = await count_tokens(left, self.policy.defaults, rows=rows, sample=sample, count=count)
        known = limits if limits is not None else Limits()
        left_off = threading.Event()
        rows_left = CancellableSource(left.path, left.name, left, left_off)
        try:
            return await asyncio.to_thread(plan, rows_left, self.policy.defaults, known, counted)
        finally:
            left_off.set()  # a cancelled plan does not keep its thread

    def on_event(self, event: Event) -> None:
        """Count an event of the executor; pass this method to it as ``on_event``."""
        self.progress.listen(event)
        if self._timeline is not None:
            self._timeline.listen(event)

    def stop(self) -> None:
        """Send nothing more and let what is in flight finish."""
        self.progress.stop()

    async def run(self, executor: Executor) -> Summary:
        """Send the remaining rows and write their results; then leave one result for each row.

        A row counts when its result is on disk. Cancelling the run writes the answers that have come.

        Args:
            executor: Sends the rows. Give it `on_event`, and `spending_caps` if the policy has caps on money
                or tokens. An executor that was not entered will do if there are no rows to send.

        Raises:
            BadInput: The source was changed meanwhile.
            OSError: A file could not be read or written. What is counted is on disk.
            RuntimeError: The job was run before, is a dry run, or its spending caps were not given to anyone.
        """
        if self._dry_run or self._snapshot is not None:
            raise RuntimeError("a dry run cannot be run" if self._dry_run else "a job can be run once")
        if self._caps and not self._caps_given:
            raise RuntimeError(
                "make the executor with spending_caps=job.spending_caps, so that it keeps the caps"
            )
        self._snapshot = executor.snapshot()
        self.progress.clock = executor.clock
        try:
            with self._kept_timeline(executor):
                if self.has_rows_to_send:
                    await self._send(executor)
                if not self.cap_reached:
                    await asyncio.to_thread(self._settle)
        finally:
            self._snapshot = executor.snapshot()
        return self.summary()

    def summary(self) -> Summary:
        """Summarize the run, also after it was cancelled or has failed.

        Raises:
            RuntimeError: The job has not been run.
        """
        if self._snapshot is None:
            raise RuntimeError("the job has not been run")
        return summarize(self.progress, self._snapshot, stopped=stop_reason(self.progress))

    @property
    def is_untouched(self) -> bool:
        """Whether results that were to be overwritten are still there, since no answer has come."""
        return self._files.results is not None and self._files.results.untouched

    @property
    def misplaced(self) -> tuple[Path, OSError] | None:
        """The file that holds the results and why they could not replace the old ones, if so."""
        results = self._files.results
        return None if results is None or results.stuck is None else (results.location, results.stuck)

    # ---- the steps

    def _enter_unless_abandoned(self) -> None:
        self.__enter__()
        with self._handover:
            if self._abandoned.is_set():
                self.close()

    def _open(self) -> None:
        self._files.open(self._abandoned)
        self.source, reader = self._files.source, self._files.reader
        policy, capped = self.policy, self.policy.caps.spending
        resumption = Resumption(reader, failures_only=policy.failures_only, on_changed=policy.on_changed)
        see = self.demand.see if capped else None
        self.survey = resumption.survey(self.source, policy.defaults, see=see)
        self.remaining = resumption.planned()
        self._resumption = resumption
        if capped and self.remaining.to_do:  # with answers that are thrown away later: they were paid for
            prices, caps = Prices(), policy.caps
            self.spent_before = spent_on(reader, prices, in_dollars=caps.dollars is not None)
            self.cap_reached = caps.used_up(self.spent_before)
            self._caps = () if self.cap_reached else caps.left(self.spent_before, self.demand, prices)
        self.progress = Run(
            self.remaining.to_do,
            models=self.survey.models,
            rest=self.remaining,
            caps=policy.caps,
            before=self.spent_before,
        )
        self.progress.at_cap = self.cap_reached

    def _kept_timeline(self, executor: Executor) -> AbstractContextManager[None]:
        if self.policy.timeline and self.has_rows_to_send:
            self._timeline = self._files.timeline()
        return nullcontext() if self._timeline is None else self._timeline.keeping(executor.snapshot)

    async def _send(self, executor: Executor) -> None:
        policy, results = self.policy, self._files.results
        if isinstance(self._target, PipeWriter):
            rows = rows_of(self.source, policy.defaults)
            await run_rows(rows, self._target, executor=executor, run=self.progress, priority=policy.priority)
            return
        assert results is not None
        results.keep_reserve(self.progress.stop)
        try:
            await run_file(
                self.source,
                results,
                executor=executor,
                run=self.progress,
                rest=self.remaining,
                survey=self.survey,
                defaults=policy.defaults,
                dedupe=policy.dedupe,
                priority=policy.priority,
            )
        finally:
            await results.flush()  # an abort may come while this is waited for

    def _settle(self) -> None:
        """Leave one result for each row, in the order of the rows if asked for."""
        if self._files.results is not None and self._resumption is not None:
            self._resumption.settle()
            if self.policy.ordered:
                sort_results(self._files.results, rows_of(self.source, self.policy.defaults))
