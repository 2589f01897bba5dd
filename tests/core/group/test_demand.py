"""How much a member asks for: a table."""

import pytest

from claude_executor.core.group.demand import RecentStarts, Target, demand
from claude_executor.core.model.cost import Cost, Resource

RATES = {"requests": 10.0, "output tokens": 1_000.0}
MEAN = {"requests": 1.0, "output tokens": 50.0}
HEAD = {"requests": 1.0, "output tokens": 80.0}
LONG_HEAD = {**HEAD, "output tokens": 3_000.0}
LONG_MEAN = {**MEAN, "output tokens": 4_000.0}


@pytest.mark.parametrize(
    ("head", "mean", "startable", "per_second", "requests", "output"),
    [
        pytest.param({}, {}, 0, 0.0, (0, 0), (0, 0), id="nothing waits, nothing is known"),
        pytest.param(HEAD, {}, 1, 0.0, (1, 1), (80, 80), id="one waits"),
        pytest.param(HEAD, {}, 3, 0.0, (1, 3), (80, 240), id="the others are taken to be like the first"),
        pytest.param(HEAD, MEAN, 3, 0.0, (1, 3), (80, 180), id="the others are like those before"),
        pytest.param(HEAD, MEAN, 0, 0.0, (1, 1), (80, 80), id="the first is asked for though none can start"),
        pytest.param({}, MEAN, 0, 8.0, (0, 1), (0, 50), id="none waits, and two are expected"),
        pytest.param({}, MEAN, 0, 3.0, (0, 0), (0, 0), id="less than one is expected"),
        pytest.param(HEAD, MEAN, 50, 0.0, (1, 5), (80, 280), id="half a second of the limits at most"),
        pytest.param(LONG_HEAD, MEAN, 9, 0.0, (1, 5), (3_000, 3_200), id="however much the first takes"),
        pytest.param(HEAD, LONG_MEAN, 9, 0.0, (1, 1), (80, 80), id="but one"),
    ],
)  # fmt: skip
def test_what_is_asked_for(head, mean, startable, per_second, requests, output):
    targets = demand(head, mean, RATES, startable=startable, per_second=per_second)
    assert targets == {"requests": Target(*requests), "output tokens": Target(*output)}


def test_without_limits_there_is_nothing_to_ask_for():
    assert demand({}, {}, {}, startable=5, per_second=100.0) == {}


class AnEstimator:
    name = "output tokens"

    def amount(self, cost):
        return cost[2]


def test_the_averages_follow_what_has_started():
    starts = RecentStarts()
    for tokens in (100.0, 200.0):
        starts.add(Cost(1.0, 0.0, tokens), [(AnEstimator(), None)])
    assert starts.mean == {Resource.OUTPUT: pytest.approx(102.0)}
    starts.advance(2.0)
    assert starts.per_second == pytest.approx(1.0 - 0.1353, abs=1e-3)
    starts.advance(2.0)
    assert starts.per_second == pytest.approx(0.117, abs=1e-3)
