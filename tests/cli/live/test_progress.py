"""What is made of snapshots, one after the other: the time left, and what is said to hold a run up."""

import pytest

from claude_executor import AttemptFailed, FailureKind, PoolState, ResourceState, Snapshot
from claude_executor.bulk import Run
from claude_executor.bulk.costs.caps import Caps
from claude_executor.bulk.run.counters import RunCounters
from claude_executor.cli.live.progress import ProgressTracker

MODEL = "claude-haiku-5-5"


class Moments:
    """An executor of which only snapshots are wanted, and the clock of a run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.resources: dict[str, ResourceState] = {}
        self.running = self.waiting_to_retry = 0
        self.breaker, self.probe_in = "closed", 0.0

    def snapshot(self) -> Snapshot:
        """Its state."""
        pool = PoolState(
            self.resources, 0, self.running, 200.0, self.breaker, self.probe_in, 0.0, None, {}, 1.0, 0
        )
        return Snapshot(0, self.running, self.waiting_to_retry, 0, 0, 0, 0, {MODEL: pool})


@pytest.fixture
def moments():
    """At the beginning nothing has happened."""
    return Moments()


def watched(moments, rows=1_000, **options):
    """A run of that executor, and who looks at it."""
    run = Run(rows, models=frozenset({MODEL}), clock=lambda: moments.now, **options)
    return run, ProgressTracker(run, moments, title="x", max_concurrency=200)


def failed(kind, status=None):
    """An attempt that is made again."""
    return AttemptFailed(
        at=0.0, number=1, pool=MODEL, model=MODEL, tenant="", submitted_at=0.0, attempt=1, kind=kind,
        status=status, request_id=None, retry_in=1.0, usage=None,
    )  # fmt: skip


def test_the_burst_at_first_foretold_an_early_end(moments):
    """Of 1,000 rows, 100 were answered at once from a full bucket; 100 a minute are the limit."""
    run, watch = watched(moments)
    moments.now, run.counters.succeeded = 6.0, 100
    moments.resources = {"requests": ResourceState(100.0, "declared", 10.0, 100.0, 0.0, 100.0, 100.0)}
    view = watch.look()
    assert view.rate == pytest.approx(1_000)
    assert view.left == pytest.approx(60 * (900 - 10) / 100)


def test_rows_in_flight_are_not_taken_for_the_use_of_those_that_are_answered(moments):
    """Ten answers and 90 requests in flight have used 100."""
    run, watch = watched(moments)
    moments.now, run.counters.succeeded, moments.running = 6.0, 10, 90
    moments.resources = {"requests": ResourceState(100.0, "declared", 0.0, 100.0, 0.0, 100.0, 100.0)}
    assert watch.look().left == pytest.approx(max(990 * 0.6, 540))


def test_answers_were_on_their_way_while_all_rows_waited_for_a_retry(moments):
    """What is waited for is said."""
    _, watch = watched(moments)
    moments.waiting_to_retry = 12
    assert watch.look().state == "waiting to retry 12 rows"
    moments.running = 20
    assert watch.look().state == "waiting for responses"


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [(FailureKind.SERVER, 500, "API failing"), (FailureKind.OVERLOADED, 529, "API overloaded")],
)
def test_an_api_that_fails_was_said_to_be_overloaded(moments, kind, status, words):
    """Overload is what 529s say."""
    run, watch = watched(moments)
    run.listen(failed(kind, status))
    moments.breaker, moments.probe_in = "open", 3.0
    assert watch.look().state == f"{words}: waiting, next probe in 3 s"
    moments.breaker, moments.probe_in = "half-open", 0.0
    assert watch.look().state == f"{words}: probing"


def test_failures_that_are_nobodys_fault_are_counted():
    """5xx and connections; not 429, 529, or what is wrong with a request."""
    tally = RunCounters()
    for kind, status in (
        (FailureKind.SERVER, 500),
        (FailureKind.TIMEOUT, 504),
        (FailureKind.UNREACHABLE, None),
    ):
        tally.listen(failed(kind, status))
    for kind, status in ((FailureKind.QUOTA, 429), (FailureKind.OVERLOADED, 529), (FailureKind.INVALID, 400)):
        tally.listen(failed(kind, status))
    assert (tally.errors, tally.refusals, tally.overloads) == (3, 1, 1)


def test_the_deadline_comes_nearer_and_is_gone_when_it_stops(moments):
    """It is that of the start, not of the job."""
    run, watch = watched(moments, caps=Caps(seconds=20.0))
    moments.now = 7.0
    assert watch.look().deadline == 13.0
    run.stop()
    assert watch.look().deadline is None
