"""The core decides and does nothing: it can be read, replayed and believed."""

import inspect
import re
from pathlib import Path

import pytest

import claude_executor.core
from claude_executor.core.control.breaker import CircuitBreaker
from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.control.concurrency import ConcurrencyLimit
from claude_executor.core.control.limit_estimator import LimitEstimator
from claude_executor.core.control.retry import RetryPolicy, RetryQuota
from claude_executor.core.control.slow_start import SlowStart
from claude_executor.core.scheduling.scheduler import Scheduler
from claude_executor.core.scheduling.waiting import WaitingRoom

CORE = Path(claude_executor.core.__file__).parent
MODULES = sorted(CORE.rglob("*.py"))
IMPURE = re.compile(r"\b(?:time|random)\.\w|\bawait |\basync def|\blogging\b|\bprint\(|\bopen\(")


def _name(module):
    return ".".join(module.relative_to(CORE).with_suffix("").parts)


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_no_module_waits_reads_a_clock_throws_dice_or_logs(module):
    """What depends on time or chance is told both."""
    found = [line for line in module.read_text().splitlines() if IMPURE.search(line)]
    assert found == []


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_every_module_has_a_test_or_is_tested_through_another(module):
    """Each file of the core has a file of tests in the same place; values are seen through their users."""
    through_others = {
        "__init__", "actions", "attempts", "disputed_draw", "event_log", "events", "exchange", "failure",
        "gate", "gates", "group", "inspection", "job", "options", "pools", "request", "sharing", "snapshot",
    }  # fmt: skip
    place = Path(__file__).parent / module.relative_to(CORE).parent
    assert module.stem in through_others or (place / f"test_{module.stem}.py").exists()


@pytest.mark.parametrize(
    "part",
    [
        CircuitBreaker,
        LimitEstimator,
        SlowStart,
        RetryQuota,
        RetryPolicy,
        Scheduler,
        TokenBucket,
        WaitingRoom,
        ConcurrencyLimit,
    ],
    ids=lambda part: part.__name__,
)
def test_time_and_chance_have_no_default(part):
    """Nobody forgets to say what time it is."""
    for name, method in inspect.getmembers(part, inspect.isfunction):
        for parameter in inspect.signature(method).parameters.values():
            if parameter.name in ("now", "u"):
                assert parameter.default is inspect.Parameter.empty, name
