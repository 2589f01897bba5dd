"""What is looked at and said before a bulk job sends anything."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from claude_executor import Stopped
from claude_executor.bulk import BadInput, Changed, FileBusy, NotResults, Unpriced, timeline_of
from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.exits import NO_ACCESS, CommandError, reason
from claude_executor.cli.terminal.format import count

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from claude_executor.bulk import RemainingRows, Source
    from claude_executor.cli.options.job import JobOptions


_OTHER_FORMATS = frozenset({".gz", ".csv", ".tsv", ".parquet", ".zip", ".zst", ".xlsx"})


@contextmanager
def as_command_errors(bulk: JobOptions) -> Generator[None]:
    """Tell what keeps a job from being done in a sentence."""
    try:
        yield
    except BadInput as error:
        raise CommandError(
            f"nothing was sent, because of {count(error.count, 'problem')}\n{error}"
        ) from error
    except (FileBusy, NotResults) as error:
        raise CommandError(str(error)) from error
    except Changed as error:
        ways = "send them again with --on-changed redo, or keep the answers with --on-changed keep"
        if error.by_place:
            moved = "these rows are named by their place: did lines move, or -m or --max-tokens change?"
            ways = f"{moved} put that back, or give them a custom_id; or {ways}"
        raise CommandError(f"nothing was sent: {error}; {ways}") from error
    except Unpriced as error:
        instead = "leave --budget out, or cap tokens with --max-tokens-total"
        raise CommandError(f"nothing was sent: {error}; {instead}") from error
    except Stopped as error:  # no key can be read from where it should be
        raise CommandError(str(error), NO_ACCESS) from error
    except OSError as error:
        raise CommandError(unopened(error, bulk.target)) from error


def unopened(error: OSError, target: Path) -> str:
    """What is said of a file of a job with this target that cannot be opened."""
    if error.filename is None:  # it was open already
        return f"cannot write {'standard output' if target == STANDARD else target}: {reason(error)}"
    if str(error.filename) == f"{target}.lock":
        return f"cannot write in the directory {target.parent}: {reason(error)}; name another file with -o"
    return f"cannot open {error.filename}: {reason(error)}"


def check_target(bulk: JobOptions) -> None:
    """See whether results can go where they are to go.

    Raises:
        Trouble: They cannot.
    """
    source, target = bulk.source, bulk.target
    if target == STANDARD:
        _check_standard_output(bulk)
        return
    try:
        exists = target.exists()
        same = exists and source.exists() and target.samefile(source)
    except OSError as error:
        raise CommandError(f"cannot write {target}: {reason(error)}") from error
    if same:
        raise CommandError(f"{target} is the input; name another file with -o")
    if any(_is_same(source, beside) for beside in _beside(target)):
        raise CommandError(f"{source} stands where something of {target} goes; name another file with -o")
    if target.suffix.lower() in _OTHER_FORMATS:
        raise CommandError(
            f"{target} would be taken for something else: results are plain JSON lines; name it .jsonl"
        )
    if target.is_dir():
        raise CommandError(f"cannot write {target}: it is a directory; name a file with -o")
    if not target.parent.is_dir():
        raise CommandError(f"cannot write {target}: there is no directory {target.parent}")
    if bulk.failures_only and not exists:
        raise CommandError(f"there are no results in {target} yet; claude-executor run makes them")


def _beside(target: Path) -> list[Path]:
    """The files that a job makes beside its results, which must not be its input."""
    return [
        timeline_of(target),
        *(target.with_name(target.name + end) for end in (".lock", ".staged", ".new")),
    ]


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _check_standard_output(bulk: JobOptions) -> None:
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # so it is when it was closed
        raise CommandError("standard output is closed: whatever came would be lost; name a file with -o")
    wants = {
        "retry": bulk.failures_only,
        "--ordered": bulk.ordered,
        "--dedupe": bulk.dedupe,
        "--json": bulk.as_json,
    }
    if wanted := [name for name, is_wanted in wants.items() if is_wanted]:
        raise click.UsageError(f"{wanted[0]} needs a file for the results, not -o -")


def opening(bulk: JobOptions, source: Source, rest: RemainingRows, unbounded: int) -> str:
    """What is done already, what is to be done now, and how many rows nobody can price beforehand."""
    if not (rest.answered or rest.failed or rest.again or rest.redone or rest.left_out):
        where = "standard output" if bulk.target == STANDARD else bulk.target
        text = f"{count(rest.rows, 'row')} in {source.name}, results in {where}"
    else:
        text = _rest_of_it(rest)
    if rest.others:
        text += (
            f"\n{bulk.target} also has {count(rest.others, 'result')} of rows that are not in {source.name}"
        )
    if bulk.caps.spending and unbounded:
        bring = "brings" if unbounded == 1 else "bring"
        text += (
            f"\n{count(unbounded, 'row')} {bring} in what cannot be priced beforehand (searches, code, "
            "documents that are elsewhere): those in flight at the end may pass the cap"
        )
    return text


def _rest_of_it(rest: RemainingRows) -> str:
    parts = [f"{rest.answered:,} of {count(rest.rows, 'row')} are done already"]
    if rest.failed:
        parts.append(f"{rest.failed:,} failed for good (claude-executor retry sends them once more)")
    if rest.again:
        parts.append(f"{rest.again:,} that failed {'is' if rest.again == 1 else 'are'} tried again")
    if rest.redone:
        parts.append(f"{rest.redone:,} that changed {'is' if rest.redone == 1 else 'are'} sent again")
    if rest.left_out:
        is_, it = ("is", "it") if rest.left_out == 1 else ("are", "them")
        parts.append(f"{rest.left_out:,} not sent yet {is_} left out (claude-executor run sends {it})")
    if new := rest.to_do - rest.again - rest.redone:
        parts.append(f"{new:,} to go")
    elif not rest.to_do:
        parts.append("nothing to do")
    return "; ".join(parts)
