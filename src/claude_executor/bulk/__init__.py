"""Bulk jobs: a JSONL file of requests in, a JSONL file of results out, and every row in it exactly once.

::

    with ResultsFile.open(target) as results:              # locked, and repaired after a crash
        resumption = Resumption(results)                   # what is done already
        survey = check(source, see=resumption.see)         # every line, before anything is sent
        rest = resumption.planned()
        run = Run(rest.to_do, models=survey.models, rest=rest)
        async with Executor(Limits(), on_event=run.listen) as executor:
            await run_file(source, results, executor=executor, run=run, rest=rest, survey=survey)
        resumption.settle()                                # one result for each row

The same for prompts that are not in a file: ``executor.map(prompts, journal=Journal(path))``.
"""

from claude_executor.bulk.costs.caps import CapDemand, Caps, Unpriced, spent_on
from claude_executor.bulk.costs.forecast import CostRange
from claude_executor.bulk.costs.plan import ModelPlan, Plan, PoolPlan, plan
from claude_executor.bulk.costs.prices import Prices, Spent
from claude_executor.bulk.costs.token_sample import NotCounted, Ratio, TokenSample, count_tokens
from claude_executor.bulk.input.problems import BadInput, BadRow, RowProblem
from claude_executor.bulk.input.rows import Row, RowDefaults, read_row, rows_of
from claude_executor.bulk.input.sources import Source, readable
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
from claude_executor.bulk.run.summary import Bottleneck, Summary, summarise
from claude_executor.bulk.run.timeline import Timeline, timeline_of
from claude_executor.bulk.run.validate import Survey, validate

__all__ = [
    "BadInput",
    "BadRow",
    "Bottleneck",
    "CapDemand",
    "Caps",
    "Changed",
    "CostRange",
    "FailureGroup",
    "FileBusy",
    "Journal",
    "ModelPlan",
    "NotCounted",
    "NotResults",
    "OnChanged",
    "PipeWriter",
    "Plan",
    "PoolPlan",
    "Prices",
    "Ratio",
    "RemainingRows",
    "RemainingSource",
    "ResultsFile",
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
    "summarise",
    "timeline_of",
    "validate",
]
