"""What a member may spend, and what it believes."""

import math

import pytest

from claude_executor.core.group.leased_bucket import LeasedBucket


@pytest.fixture
def purse():
    return LeasedBucket(10.0, 100.0, now=0.0)


def test_nothing_may_be_spent_before_it_is_granted(purse):
    assert purse.ready_at(1.0) == math.inf
    purse.granted = 1.0
    assert purse.ready_at(1.0) == -math.inf
    purse.take(1.0, 0.0)
    assert purse.granted == 0.0
    assert purse.level(0.0) == 99.0


def test_what_settling_leaves_goes_back_to_the_group(purse):
    purse.granted = 5.0
    purse.take(5.0, 0.0)
    purse.settle(2.0, 0.0)
    assert (purse.owed, purse.granted) == (2.0, 0.0)


def test_a_correction_is_for_the_group_once_it_knows_the_bucket(purse):
    purse.correct(70.0, 0.0)
    assert purse.correction == 0.0  # the level is told as it is
    purse.on_level(80.0, 0.0)
    purse.correct(75.0, 0.0)
    assert purse.correction == pytest.approx(-5.0)


def test_a_refusal_voids_what_was_granted(purse):
    purse.on_level(80.0, 0.0)
    purse.granted = 5.0
    purse.correct(-3.0, 0.0)
    assert (purse.granted, purse.ceiling) == (0.0, -3.0)


def test_alone_it_refills_at_its_share_without_a_burst(purse):
    purse.granted = 50.0
    purse.detach(0.25, 0.0)
    assert purse.ready_at(2.5) == -math.inf
    purse.take(2.5, 0.0)
    assert purse.ready_at(1.0) == pytest.approx(0.4)
    purse.reconfigure(20.0, 100.0, 0.0)
    assert purse.ready_at(1.0) == pytest.approx(0.2)


def test_back_again_it_has_nothing_saved_up(purse):
    purse.detach(0.25, 0.0)
    purse.reattach(60.0)
    assert purse.ready_at(1.0) == math.inf
    assert purse.level(60.0) <= 0.0
