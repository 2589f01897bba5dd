"""The messages that the script reads and writes."""

import json

from claude_executor.budget.wire import LONGEST_WAIT, decode_lease, encode_request
from claude_executor.core.model.sharing import (
    Closure,
    LeaseRequest,
    Outage,
    PoolUpdates,
    RampAllowance,
    ResourceLease,
    ResourceLine,
)

ANSWER = {
    "got": {}, "again": 0.25, "probe": False, "version": 3, "level": {"requests": 7}, "held": {},
    "flying": [], "variance": {}, "terms": {"requests": {"rate": 1.0, "cap": 60.0}}, "members": 2,
    "share": 0.5, "closed": 0, "gently": False, "cuts": 0,
}  # fmt: skip


def encoded(**fields):
    request = LeaseRequest(**{"seq": 1, "version": 0, "weight": 1.0, **fields})
    return json.loads(encode_request(request, member="m", name="n"))


def decoded(**fields):
    return decode_lease(json.dumps(ANSWER | fields).encode())


def test_what_is_nothing_is_left_out():
    usual = {"id", "name", "seq", "version", "weight", "running", "waiting", "keep"}
    assert encoded().keys() == usual
    assert encoded(resources={"requests": ResourceLine()}).keys() == usual


def test_amounts_are_columns_and_a_level_of_zero_is_one():
    message = encoded(
        resources={
            "requests": ResourceLine(wanted=2.0, head=1.0, returned=-3.0, level=0.0, ceiling=0.0),
            "output tokens": ResourceLine(leased=5.0, in_flight=6.0, variance=7.0, correction=8.0),
            "tokens": ResourceLine(limits={"rate": 1.0}, declared={"told": 60.0}),
        }
    )
    assert message["want"] == {"requests": 2.0}
    assert message["head"] == {"requests": 1.0}
    assert message["back"] == {"requests": -3.0}
    assert (message["level"], message["drain"]) == ({"requests": 0.0}, {"requests": 0.0})
    assert (message["held"], message["flying"]) == ({"output tokens": 5.0}, {"output tokens": 6.0})
    assert (message["variance"], message["fix"]) == ({"output tokens": 7.0}, {"output tokens": 8.0})
    assert message["terms"] == {"tokens": {"rate": 1.0}}
    assert message["declared"] == {"tokens": {"told": 60.0}}


def test_every_discovery_is_in_the_message():
    updates = PoolUpdates(
        limits_changed=True,
        closure=Closure(3.0, gently=True),
        outage=Outage(1.0, 2.0),
        overloaded=True,
        ramp=RampAllowance(10.0, 5.0, 40.0),
    )
    message = encoded(updates=updates)
    assert message["changed"]
    assert (message["closed"], message["gently"]) == (3.0, True)
    assert (message["breaker"], message["pause"], message["lasted"]) == ("open", 1.0, 2.0)
    assert message["cut"]
    assert message["growth"] == {"allowance": 10.0, "step": 5.0, "ends": 40.0}
    assert encoded(updates=PoolUpdates(recovered=True))["breaker"] == "closed"


def test_the_state_of_the_member_is_in_the_message():
    message = encoded(
        headroom=0.1, running=2, waiting=3, held_by="requests", max_concurrency=9, known_members=4,
        wants_probe=True, probing=True, returning=True, leaving=True,
    )  # fmt: skip
    assert (message["keep"], message["running"], message["waiting"]) == (0.1, 2, 3)
    assert (message["binds"], message["most"], message["members"]) == ("requests", 9, 4)
    assert message["probes"]
    assert message["probing"]
    assert message["returns"]
    assert message["leave"]


def test_a_lease_has_a_line_for_each_resource():
    lease = decoded(got={"tokens": 5.0}, held={"requests": 2.0}, flying={"requests": 3.0})
    assert lease.resources == {
        "requests": ResourceLease(
            level=7, leased=2.0, in_flight=3.0, limits={"rate": 1.0, "cap": 60.0}
        ),
        "tokens": ResourceLease(granted=5.0),
    }  # fmt: skip
    assert (lease.version, lease.members, lease.share, lease.ask_again_in) == (3, 2, 0.5, 0.25)
    assert (lease.closure, lease.outage, lease.ramp, lease.permits, lease.short_of) == (None,) * 5


def test_what_the_group_knows_is_in_the_lease():
    growth = {"allowance": 10.0, "step": 5.0, "ends": 4.0, "told": 2.0}
    lease = decoded(
        closed=2.0, gently=True, breaker={"pause": 1.0, "lasted": 9.0}, growth=growth, permits=3, cuts=4,
        short="requests", probe=True,
    )  # fmt: skip
    assert lease.closure == Closure(2.0, gently=True)
    assert lease.outage == Outage(1.0, 9.0)
    assert lease.ramp == RampAllowance(10.0, 5.0, 4.0, number=2.0)
    assert (lease.permits, lease.overloads, lease.short_of, lease.may_probe) == (3, 4, "requests", True)


def test_no_answer_keeps_a_member_waiting_for_ever():
    assert decoded(again=1e9).ask_again_in == LONGEST_WAIT
