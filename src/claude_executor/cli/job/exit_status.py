"""The exit status of a bulk job: the code, why it ended early, and what to do before it is resumed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_executor import BudgetUnreachable, FailureKind
from claude_executor.cli.terminal.exits import BAD_INPUT, CAP_REACHED, NO_ACCESS, OK, SOME_FAILED
from claude_executor.cli.terminal.format import count, money, span
from claude_executor.cli.terminal.signals import CODES

if TYPE_CHECKING:
    from claude_executor.bulk import Run
    from claude_executor.cli.live.interruptible import Interruption

NEARLY = 0.9
"""Fraction of a cap below which the message explains why the job ended with more left."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """Exit code of a job, and the sentences that explain it.

    Attributes:
        code: The exit code.
        stopped: Why it ended early, if it did.
        first: What to do before the resume command, if anything.
    """

    code: int
    stopped: str | None = None
    first: str = ""


def exit_status(run: Run, ending: Interruption, *, attempts: int) -> ExitStatus:
    """Return how a run ended; `attempts` is the number of requests it sent."""
    unsent = f"{count(run.unsent, 'row')} not sent" if run.unsent else "every row is done"
    # A signal that came when everything left was in flight, and was waited for, interrupted nothing.
    if ending.number is not None and (run.unsent or ending.aborted):
        how = "aborted" if ending.aborted else "interrupted"
        return ExitStatus(CODES[signal.Signals(ending.number)], f"{how}; {unsent}")
    if run.fatal is not None:
        kind = None if isinstance(run.fatal, BudgetUnreachable) else run.fatal.kind
        return ExitStatus(BAD_INPUT if kind is FailureKind.NOT_FOUND else NO_ACCESS, without_lead(run.fatal))
    if run.at_cap and run.unsent:
        reached, why, option = _cap(run, attempts)
        return ExitStatus(CAP_REACHED, f"{reached}; {unsent}{why}", f"raise {option} and ")
    if run.late and run.unsent:
        return ExitStatus(CAP_REACHED, f"deadline ({span(run.caps.seconds or 0)}) reached; {unsent}")
    without = run.rest is not None and (run.rest.failed or run.rest.left_out)
    return ExitStatus(SOME_FAILED if run.counters.failed or run.unsent or without else OK)


def without_lead(message: object) -> str:
    """Return a message without a leading ``failed:``, for places that say so already."""
    return str(message).removeprefix("failed: ")


def _cap(run: Run, attempts: int) -> tuple[str, str, str]:
    """Return which cap was reached, why more is left of it, and the option that raises it."""
    caps, spent = run.caps, run.spent
    if caps.nearest(spent) == "tokens":
        most, used, option = float(caps.tokens or 0), float(spent.tokens), "--max-tokens-total"
        text = f"cap of {most:,.0f} tokens reached ({used:,.0f} used)"
    else:
        most, used, option = caps.dollars or 0.0, spent.dollars or 0.0, "--max-cost"
        text = f"cost cap of {money(most)} reached ({money(used)} spent)"
    if used >= NEARLY * most:
        return text, "", option
    why = "; the next row could take more than is left"
    if attempts > run.counters.succeeded - run.counters.copies:
        why += " (failed attempts may have been charged, too)"
    return text, why, option
