"""What less urgent work leaves for more urgent work."""

from claude_executor.core.scheduling.waiting import LASTS, SHARE, PriorityReserve


def test_alone_a_priority_keeps_nothing_for_others():
    """Whatever the number."""
    urgency = PriorityReserve()
    assert urgency.headroom_for(0, 0.0) == 0.0
    urgency.seen(5, 0.0)
    assert urgency.headroom_for(5, 0.0) == 0.0


def test_the_less_urgent_leave_a_share_to_the_more_urgent():
    """And not the other way round."""
    urgency = PriorityReserve()
    for priority in (-1, 0, 7):
        urgency.seen(priority, 0.0)
    assert [urgency.headroom_for(priority, 1.0) for priority in (-1, 0, 7)] == [SHARE, SHARE, 0.0]


def test_after_a_while_without_urgent_work_nothing_is_kept():
    """Counted from the last urgent request."""
    urgency = PriorityReserve()
    urgency.seen(7, 0.0)
    urgency.seen(7, 10.0)
    urgency.seen(0, 10.0)
    assert urgency.headroom_for(0, 10.0 + LASTS - 0.1) == SHARE
    urgency.seen(0, 10.0 + LASTS)
    assert urgency.headroom_for(0, 10.0 + LASTS) == 0.0


def test_priorities_nobody_uses_any_more_are_forgotten():
    """Somebody who uses the time of day as a priority does not fill the memory."""
    urgency = PriorityReserve()
    for number in range(5_000):
        urgency.seen(number, float(number))
        urgency.headroom_for(0, float(number))
    assert len(urgency._until) < 100
