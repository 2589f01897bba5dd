"""``claude-executor report``: an HTML report of a run."""

from __future__ import annotations

import time
from pathlib import Path

import click

from claude_executor.bulk import timeline_of
from claude_executor.cli.terminal.exits import CommandError, reason
from claude_executor.cli.terminal.format import count

_OF_THE_EXTRA = frozenset({"jinja2", "markupsafe", "matplotlib", "numpy"})
_PAGES = frozenset({".html", ".htm"})


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Report file.  [default: RESULTS with .report.html]",
)
def report(results: Path, output: Path | None) -> None:
    """Create an HTML report of a run: one file that needs no network.

    RESULTS is the file that `run` wrote. Next to it `run` keeps a timeline (.timeline.jsonl) with the limits
    and what held the queue. Results of Message Batches work too, with fewer figures.
    """
    target = output if output is not None else results.with_name(_stem(results) + ".report.html")
    if target.suffix.lower() not in _PAGES:
        raise CommandError(f"the report is an HTML page, so {target} must end in .html")
    page, rows, doubled = _page(results)
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {target}: {reason(error)}; choose another file with -o") from error
    click.echo(f"{count(rows, 'row')} in {results}, report in {target}", err=True)
    if doubled is not None:
        click.echo(doubled, err=True)


def _page(results: Path) -> tuple[str, int, str | None]:
    try:
        from claude_executor.bulk.report import account_of
        from claude_executor.cli.report.page import about_doubled, page_of
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _OF_THE_EXTRA:
            raise
        wanted = "pip install 'claude-executor[report]'"
        raise CommandError(f"the report needs {error.name}, which is not installed; run: {wanted}") from error
    try:
        account = account_of(results)
    except OSError as error:
        raise CommandError(f"cannot read {error.filename or results}: {reason(error)}") from error
    if not len(account.rows):
        raise CommandError(f"{results} contains no results; give the file that `run` wrote, not its input")
    timeline = timeline_of(results).name
    page = page_of(account, name=results.name, timeline=timeline, now=time.time())
    return page, len(account.rows), about_doubled(account)


def _stem(results: Path) -> str:
    return results.name.removesuffix(".jsonl")
