"""What a bulk job was like, read from its results and its timeline, for the report.

Needs the extra ``report``: importing this imports NumPy.
"""

from claude_executor.bulk.report.account import TOLD, Account, LimitUse, Spread, account_of
from claude_executor.bulk.report.history import Axis, History, Limit, Ran
from claude_executor.bulk.report.lines import Example, FailureExamples, Rows
from claude_executor.bulk.report.series import PERCENTILES, Steps

__all__ = [
    "PERCENTILES",
    "TOLD",
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
