"""Bulk jobs: a JSONL file of requests in, a JSONL file of results out, and every row in it exactly once.

::

    with ResultsFile(target) as results:                   # locked, and repaired after a crash
        resumption = Resumption(results)                   # what is done already
        survey = check(source, see=resumption.see)         # every line, before anything is sent
        rest = resumption.planned()
        run = Run(rest.to_do, models=survey.models, rest=rest)
        async with Executor(Limits(), on_event=run.listen) as executor:
            await run_file(source, results, executor=executor, run=run, rest=rest, survey=survey)
        resumption.settle()                                # one result for each row

The same for prompts that are not in a file: ``executor.map(prompts, journal=Journal(path))``.
"""

from claude_executor.bulk.costs.caps import Asked, Caps, Unpriced, spent_on
from claude_executor.bulk.costs.forecast import Range
from claude_executor.bulk.costs.plan import ModelPlan, Plan, PoolPlan, plan
from claude_executor.bulk.costs.prices import Prices, Spent
from claude_executor.bulk.costs.token_sample import Counted, NotCounted, Ratio, count_tokens
from claude_executor.bulk.input.problems import BadInput, BadRow, Problem
from claude_executor.bulk.input.rows import Defaults, Row, read_row, rows_of
from claude_executor.bulk.input.sources import Source, readable
from claude_executor.bulk.results.line import NotResults
from claude_executor.bulk.results.lock import Busy
from claude_executor.bulk.results.pipe_writer import Outlet
from claude_executor.bulk.results.reader import Results
from claude_executor.bulk.results.writer import ResultsFile
from claude_executor.bulk.run.counters import FailureGroup, Tally
from claude_executor.bulk.run.map_journal import Journal
from claude_executor.bulk.run.remaining import Remaining, remaining
from claude_executor.bulk.run.resume import Changed, OnChanged, Rest, Resumption
from claude_executor.bulk.run.run import Run, run_file, run_rows
from claude_executor.bulk.run.sort import put_in_order
from claude_executor.bulk.run.summary import Limited, Summary, summarise
from claude_executor.bulk.run.timeline import Timeline, timeline_of
from claude_executor.bulk.run.validate import Survey, check

__all__ = [
    "Asked",
    "BadInput",
    "BadRow",
    "Busy",
    "Caps",
    "Changed",
    "Counted",
    "Defaults",
    "FailureGroup",
    "Journal",
    "Limited",
    "ModelPlan",
    "NotCounted",
    "NotResults",
    "OnChanged",
    "Outlet",
    "Plan",
    "PoolPlan",
    "Prices",
    "Problem",
    "Range",
    "Ratio",
    "Remaining",
    "Rest",
    "Results",
    "ResultsFile",
    "Resumption",
    "Row",
    "Run",
    "Source",
    "Spent",
    "Summary",
    "Survey",
    "Tally",
    "Timeline",
    "Unpriced",
    "check",
    "count_tokens",
    "plan",
    "put_in_order",
    "read_row",
    "readable",
    "remaining",
    "rows_of",
    "run_file",
    "run_rows",
    "spent_on",
    "summarise",
    "timeline_of",
]
