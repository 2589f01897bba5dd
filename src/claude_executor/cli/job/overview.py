"""The lines that a job begins with: what is done already and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.format import count

if TYPE_CHECKING:
    from claude_executor.bulk import Job, RemainingRows
    from claude_executor.cli.options.job import JobOptions


def overview(job: Job, options: JobOptions) -> str:
    """Say what is done already, what is left, and how many rows cannot be priced in advance."""
    source, rest, unbounded = job.source, job.remaining, job.demand.unbounded
    if not (rest.answered or rest.failed or rest.again or rest.redone or rest.left_out):
        where = "standard output" if options.target == STANDARD else options.target
        text = f"{count(rest.rows, 'row')} in {source.name}, results in {where}"
    else:
        text = _rest_of_it(rest)
    if rest.others:
        others = count(rest.others, "result")
        text += f"\n{options.target} also has {others} for rows that are not in {source.name}"
    if options.caps.spending and unbounded:
        bring = "brings" if unbounded == 1 else "bring"
        text += (
            f"\n{count(unbounded, 'row')} {bring} in content that cannot be priced in advance (searches, "
            "code, remote documents): when the cap is near, those in flight may exceed it"
        )
    return text


def _rest_of_it(rest: RemainingRows) -> str:
    parts = [f"{rest.answered:,} of {count(rest.rows, 'row')} are already done"]
    if rest.failed:
        parts.append(f"{rest.failed:,} failed permanently (retry them with claude-executor retry)")
    if rest.again:
        parts.append(f"{rest.again:,} failed {'row is' if rest.again == 1 else 'rows are'} retried")
    if rest.redone:
        parts.append(f"{rest.redone:,} changed {'row is' if rest.redone == 1 else 'rows are'} sent again")
    if rest.left_out:
        is_, it = ("is", "it") if rest.left_out == 1 else ("are", "them")
        parts.append(f"{rest.left_out:,} not sent yet {is_} left out (send {it} with claude-executor run)")
    if new := rest.to_do - rest.again - rest.redone:
        parts.append(f"{new:,} to go")
    elif not rest.to_do:
        parts.append("nothing to do")
    return "; ".join(parts)
