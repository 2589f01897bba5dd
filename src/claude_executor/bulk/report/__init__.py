"""The account of a bulk job for its report, read from the results and the timeline.

This package needs the extra ``report``: importing it imports NumPy.
"""

from claude_executor.bulk.report.account import SPREAD_PERCENTILES, Account, LimitUse, Spread, account_of
from claude_executor.bulk.report.history import Axis, History, Limit, Ran
from claude_executor.bulk.report.lines import Example, FailureExamples, Rows
from claude_executor.bulk.report.series import PERCENTILES, Steps

__all__ = [
    "PERCENTILES",
    "SPREAD_PERCENTILES",
    "Account",
    "Axis",
    "Example",
    "FailureExamples",
    "History",
    "Limit",
    "LimitUse",
    "Ran",
    "Rows",
    "Spread",
    "Steps",
    "account_of",
]
