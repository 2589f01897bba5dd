"""Bulk jobs: a JSONL file of requests in, a JSONL file of results out, every row in it exactly once.

::

    async with Job.open("rows.jsonl", "results.jsonl") as job:       # locked, validated, compared
        plan = await job.plan(Limits.tier("start"))                  # tokens, cost and time
        async with Executor(on_event=job.on_event, spending_caps=job.spending_caps) as executor:
            summary = await job.run(executor)                        # resumes where the last start ended

For prompts that are not in a file: ``executor.map(prompts, journal=Journal(path))``.

`Job` is made of parts that can be used alone: `ResultsFile`, `Resumption`, `Run` and `run_file`, `plan`,
`Caps`.
"""

from claude_executor.bulk.costs.caps import CapDemand, Caps, Unpriced, spent_on
from claude_executor.bulk.costs.forecast import CostRange
from claude_executor.bulk.costs.plan import ModelPlan, Plan, PoolPlan, plan
from claude_executor.bulk.costs.prices import Prices, Spent
from claude_executor.bulk.costs.token_sample import NotCounted, TokenRatio, TokenSample, count_tokens
from claude_executor.bulk.input.problems import BadInput, BadRow, RowProblem
from claude_executor.bulk.input.rows import Row, RowDefaults, read_row, rows_of
from claude_executor.bulk.input.sources import Source, readable
from claude_executor.bulk.job import BulkJob as Job
from claude_executor.bulk.job_policy import JobPolicy
from claude_executor.bulk.job_target import BadTarget, ResultsNotWritable
from claude_executor.bulk.results.line import NotResults
from claude_executor.bulk.results.lock import FileBusy
from claude_executor.bulk.results.pipe_writer import PipeWriter
from claude_executor.bulk.results.reader import ResultsReader
from claude_executor.bulk.results.writer import ResultsFile
from claude_executor.bulk.run.counters import FailureGroup, RunCounters
from claude_executor.bulk.run.map_journal import Journal
from claude_executor.bulk.run.remaining import RemainingSource, remaining
from claude_executor.bulk.run.resume import Changed, OnChanged, RemainingRows, Resumption
from claude_executor.bulk.run.run import Run, run_file, run_rows
from claude_executor.bulk.run.sort import sort_results
from claude_executor.bulk.run.summary import Bottleneck, Summary, summarize
from claude_executor.bulk.run.timeline import Timeline, timeline_of
from claude_executor.bulk.run.validate import Survey, validate

__all__ = [
    "BadInput",
    "BadRow",
    "BadTarget",
    "Bottleneck",
    "CapDemand",
    "Caps",
    "Changed",
    "CostRange",
    "FailureGroup",
    "FileBusy",
    "Job",
    "JobPolicy",
    "Journal",
    "ModelPlan",
    "NotCounted",
    "NotResults",
    "OnChanged",
    "PipeWriter",
    "Plan",
    "PoolPlan",
    "Prices",
    "RemainingRows",
    "RemainingSource",
    "ResultsFile",
    "ResultsNotWritable",
    "ResultsReader",
    "Resumption",
    "Row",
    "RowDefaults",
    "RowProblem",
    "Run",
    "RunCounters",
    "Source",
    "Spent",
    "Summary",
    "Survey",
    "Timeline",
    "TokenRatio",
    "TokenSample",
    "Unpriced",
    "count_tokens",
    "plan",
    "read_row",
    "readable",
    "remaining",
    "rows_of",
    "run_file",
    "run_rows",
    "sort_results",
    "spent_on",
    "summarize",
    "timeline_of",
    "validate",
]
