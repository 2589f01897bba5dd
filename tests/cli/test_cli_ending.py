"""What is said at the end, where it could be said wrongly."""

import signal

import pytest

from claude_executor.bulk import Run
from claude_executor.cli.steer import Ending
from claude_executor.cli.verdict import verdict


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_too_late_to_interrupt_anything_is_no_interruption(number):
    """All rows are done: there is nothing to go on with."""
    run = Run(3)
    for _ in range(3):
        run.tally.copied()
    ended = verdict(run, Ending(number), attempts=3)
    assert (ended.code, ended.stopped) == (0, None)
    run.tally.succeeded -= 1
    assert verdict(run, Ending(number), attempts=3).stopped == "interrupted; 1 row left undone"


def test_aborted_while_results_are_put_in_order_does_not_count_rows():
    """The order may be wanting, so there is something to go on with."""
    ended = verdict(Run(0), Ending(signal.SIGINT, aborted=True), attempts=0)
    assert (ended.code, ended.stopped) == (130, "aborted; every row is done")
