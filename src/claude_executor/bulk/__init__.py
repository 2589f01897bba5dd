"""Bulk jobs: a JSONL file of requests in, a JSONL file of results out.

::

    survey = check(source)                                 # every line, before anything is sent
    run = Run(survey.rows, models=survey.models)
    async with Executor(Limits(), on_event=run.listen) as executor:
        await run_file(source, target, executor=executor, run=run)
"""

from claude_executor.bulk.prices import Prices, Spent
from claude_executor.bulk.results import Results
from claude_executor.bulk.rows import (
    BadInput,
    BadRow,
    Defaults,
    Problem,
    Row,
    Survey,
    check,
    read_row,
    rows_of,
)
from claude_executor.bulk.run import Run, run_file, run_rows
from claude_executor.bulk.summary import Limited, Summary, summarise
from claude_executor.bulk.tally import FailureGroup, Tally

__all__ = [
    "BadInput",
    "BadRow",
    "Defaults",
    "FailureGroup",
    "Limited",
    "Prices",
    "Problem",
    "Results",
    "Row",
    "Run",
    "Spent",
    "Summary",
    "Survey",
    "Tally",
    "check",
    "read_row",
    "rows_of",
    "run_file",
    "run_rows",
    "summarise",
]
