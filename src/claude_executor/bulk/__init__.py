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

from claude_executor.bulk.caps import Asked, Caps, Unpriced, spent_on
from claude_executor.bulk.cases import Range
from claude_executor.bulk.check import Survey, check
from claude_executor.bulk.count import Counted, NotCounted, Ratio, count_tokens
from claude_executor.bulk.journal import ResultsFile
from claude_executor.bulk.lock import Busy
from claude_executor.bulk.map_journal import Journal
from claude_executor.bulk.order import put_in_order
from claude_executor.bulk.outlet import Outlet
from claude_executor.bulk.plan import ModelPlan, Plan, PoolPlan, plan
from claude_executor.bulk.prices import Prices, Spent
from claude_executor.bulk.problems import BadInput, BadRow, Problem
from claude_executor.bulk.reading import Results
from claude_executor.bulk.remaining import Remaining, remaining
from claude_executor.bulk.results import NotResults
from claude_executor.bulk.resume import Changed, OnChanged, Rest, Resumption
from claude_executor.bulk.rows import Defaults, Row, read_row, rows_of
from claude_executor.bulk.run import Run, run_file, run_rows
from claude_executor.bulk.sources import Source, readable
from claude_executor.bulk.summary import Limited, Summary, summarise
from claude_executor.bulk.tally import FailureGroup, Tally
from claude_executor.bulk.timeline import Timeline, timeline_of

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
