"""``claude-executor retry``: the rows that failed, once more."""

from __future__ import annotations

from typing import Any

import click

from claude_executor.cli.bulk import Bulk, bulk_options
from claude_executor.cli.conduct import conduct
from claude_executor.cli.going_on import GoingOn, Remembering


@click.command(cls=Remembering)
@bulk_options
def retry(**options: Any) -> None:  # noqa: ANN401 - those of `bulk_options`
    """Send the rows of FILE that failed once more, also those that run would leave at that.

    Takes the same FILE and options as run. Rows that were never sent are not sent now. What failed stays in
    the results until there is something to put in its place.
    """
    conduct(Bulk.of(options, going_on=GoingOn.with_this(), failures_only=True))
