"""``claude-executor retry``: the rows that failed, once more."""

from __future__ import annotations

from typing import Any

import click

from claude_executor.cli.bulk import Bulk, Remembering, bulk_options, words_to_go_on
from claude_executor.cli.conduct import conduct


@click.command(cls=Remembering)
@bulk_options
def retry(**options: Any) -> None:  # noqa: ANN401 - those of `bulk_options`
    """Send the rows of FILE that failed once more, also those that run would leave at that.

    Takes the same FILE and options as run. Rows that were never sent are not sent now. If it is interrupted,
    run goes on with the rest.
    """
    conduct(Bulk.of(options, go_on=words_to_go_on(), failures_only=True))
