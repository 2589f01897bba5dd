"""The script is a second implementation of the bucket, divided among members: it must agree with it."""

import json
import time

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_executor.budget.redis import script
from claude_executor.core.control.bucket import TokenBucket

RATE, CAPACITY = 10.0, 100.0
TERMS = {"requests": {"rate": RATE, "cap": CAPACITY}}


class Group:
    """Calls the script as its members would."""

    def __init__(self, client):
        self._client = client
        self._seq = 0
        self.version = 0

    def ask(self, member="a", *, want=None, head=1.0, **said):
        self._seq += 1
        request = {"id": member, "name": member, "seq": self._seq, "weight": 1.0, "version": self.version}
        request |= {"running": 0, "waiting": 0, "terms": TERMS}
        if (several := said.pop("want_all", None)) is not None:
            request |= {"want": several, "head": said.pop("head_all")}
        if want is not None:
            request |= {"want": {"requests": want}, "head": {"requests": head}}
        answer = json.loads(
            self._client.eval(script(), 2, "state", "pools", json.dumps(request | said), "pool")
        )
        self.version = answer["version"]
        return answer

    def got(self, *args, **kwargs):
        return (self.ask(*args, **kwargs)["got"] or {}).get("requests", 0.0)

    def level(self, member="a"):
        return self.ask(member)["level"]["requests"]


@pytest.fixture
def group(clock):
    return Group(fakeredis.FakeRedis(server=fakeredis.FakeServer()))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.floats(0.0, 4.0),  # seconds since the step before
        st.floats(1.0, 150.0),  # wanted
        st.floats(-5.0, 5.0),  # given back
        st.one_of(st.none(), st.floats(-20.0, 20.0)),  # corrected
        st.one_of(st.none(), st.floats(-20.0, 50.0)),  # drained
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_level_of_the_group_is_that_of_one_bucket(clock, steps):
    """Whoever asks, gives back and corrects: all purses and the pot together are one token bucket."""
    group = Group(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    group.ask()
    bucket = TokenBucket(RATE, CAPACITY, now=clock.now)
    for member, passed, want, back, fix, drain in steps:
        clock.now = round(clock.now + passed, 6)
        said = {"back": {"requests": back}}
        if fix is not None:
            said["fix"] = {"requests": fix}
        if drain is not None:
            said["drain"] = {"requests": drain}
        answer = group.ask(member, want=want, **said)
        bucket.settle(back + (fix or 0.0), clock.now)
        if drain is not None:
            bucket.correct(min(drain, bucket.level(clock.now)), clock.now)
        got = (answer["got"] or {}).get("requests", 0.0)
        assert got <= max(0.0, bucket.level(clock.now)) + 1e-3
        bucket.take(got, clock.now)
        assert answer["level"]["requests"] == pytest.approx(bucket.level(clock.now), abs=2e-2)


def test_a_real_redis_hands_out_no_more_than_burst_and_refill(real_redis):
    """The same on a real server, whose clock is the only one."""
    group = Group(redis.Redis(port=real_redis.port))
    begun = time.monotonic()
    got = 0.0
    while time.monotonic() - begun < 1.0:
        for member in "abc":
            got += group.got(member, want=50.0)
    took = time.monotonic() - begun
    assert CAPACITY + RATE * took * 0.8 <= got <= CAPACITY + RATE * took * 1.05


def test_busy_members_share_by_weight(group, clock):
    """Two that want all they can get, one twice the other."""
    group.ask("a")
    group.ask("a", drain={"requests": 0.0})
    got = {"a": 0.0, "b": 0.0}
    for _ in range(200):
        clock.now += 0.05
        got["a"] += group.got("a", want=20.0)
        got["b"] += group.got("b", want=20.0, weight=2.0)
    assert got["a"] + got["b"] == pytest.approx(100.0, rel=0.02)
    assert got["b"] / got["a"] == pytest.approx(2.0, rel=0.03)


def test_what_an_idle_member_leaves_flows_to_the_busy_within_two_seconds(group, clock):
    """It keeps a second's worth of its share, and no more."""
    group.ask("a", drain={"requests": 0.0})
    group.ask("idle")
    got = []
    for _ in range(5):
        clock.now += 1.0
        got.append(group.got("a", want=100.0))
    assert got[0] == pytest.approx(5.0, rel=0.01)
    assert got[2:] == pytest.approx([10.0] * 3, rel=0.01)


def test_a_light_member_finds_its_own(group, clock):
    """However much the others want, who has asked for nothing gets what it needs at once."""
    group.ask("light")
    group.ask("flood", drain={"requests": 0.0})
    for _ in range(60):
        clock.now += 0.05
        group.got("flood", want=1000.0)
    assert group.got("light", want=1.0) == 1.0


def test_a_request_larger_than_its_share_saves_up_for_it(group, clock):
    """A large request is not starved by small ones that come more often."""
    group.ask("a", drain={"requests": 0.0})
    waited = 0
    while not group.got("large", want=40.0, head=40.0):
        clock.now += 0.25
        waited += 1
        group.got("a", want=50.0)
        assert waited < 60
    assert waited * 0.25 == pytest.approx(8.0, abs=1.0)


def test_who_waits_for_a_large_request_loses_nothing_to_the_others_meanwhile(group, clock):
    """All want what is more than a second of their share; it does not matter who asks how often."""
    group.ask("a", drain={"requests": 0.0})
    group.ask("b")
    got = {"a": 0.0, "b": 0.0}
    due = {"a": 0.0, "b": 0.0}
    for tick in range(600):
        clock.now += 0.05
        for member, slowness in (("a", 0.0), ("b", 0.5)):
            if due[member] <= tick * 0.05:
                answer = group.ask(member, want=8.0, head=8.0)
                got[member] += (answer["got"] or {}).get("requests", 0.0)
                due[member] = tick * 0.05 + max(0.05, answer["again"] + slowness)
    assert got["a"] + got["b"] == pytest.approx(300.0, rel=0.05)
    assert got["b"] / got["a"] == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("of_the_other", [0.0, 9.0])
@pytest.mark.parametrize("variance", [0.0, 100.0])
def test_a_request_as_large_as_a_short_bucket_does_not_starve(group, clock, of_the_other, variance):
    """Others keep their part of it, or save up as well, and there is a margin."""
    terms = {"requests": {"rate": 10.0, "cap": 10.0}}
    group.ask("other", terms=terms)
    got = {"large": 0.0, "other": 0.0}
    for _ in range(60):
        clock.now += 0.25
        said = {"terms": terms, "variance": {"requests": variance}}
        got["other"] += group.got("other", want=of_the_other, head=of_the_other, **said)
        got["large"] += group.got("large", want=9.0, head=9.0, **said)
    assert sum(got.values()) >= 0.8 * 150.0
    assert got["large"] == pytest.approx(got["other"] if of_the_other else 150.0, rel=0.15)


def test_more_than_was_thought_is_for_all(group):
    """It is not for the first who asks."""
    group.ask("a", drain={"requests": 0.0})
    group.ask("b")
    group.ask("a", fix={"requests": 6.0})
    assert group.got("b", want=50.0) == pytest.approx(3.0, abs=0.1)
    assert group.got("a", want=50.0) == pytest.approx(3.0, abs=0.1)


def test_what_is_in_the_pot_is_not_for_the_first_alone(group, clock):
    """Who asks often draws from it no more often than others that wait for their turn."""
    group.ask("a")
    group.ask("b")
    got = 0.0
    for _ in range(10):
        clock.now += 0.02
        got += group.got("a", want=20.0)
    assert 20.0 <= got <= 43.0
    assert group.got("b", want=20.0) == pytest.approx(20.0)


def test_bulk_leaves_something_for_what_is_more_urgent(group, clock):
    """Half a second of the member's own share: it is there at once when it is wanted."""
    group.ask("a", drain={"requests": 0.0})
    for _ in range(40):
        clock.now += 0.05
        bulk = group.got("a", want=20.0, keep=0.05)
    assert bulk == pytest.approx(0.5, abs=0.6)
    assert group.got("a", want=5.0, head=5.0) == pytest.approx(5.0)


def test_it_says_what_is_short(group):
    """Of several resources the one that there is least of for what is wanted."""
    terms = {**TERMS, "output tokens": {"rate": 100.0, "cap": 1000.0}}
    want = {"requests": 20.0, "output tokens": 4000.0}
    head = {"requests": 1.0, "output tokens": 200.0}
    assert "short" not in group.ask(terms=terms)
    assert group.ask(terms=terms, want_all=want, head_all=head)["short"] == "output tokens"
    nothing = group.ask(terms=terms, want_all=want, head_all=head)
    assert not nothing["got"]
    assert nothing["short"] == "output tokens"


def test_who_is_dead_is_forgotten_and_leaves_what_it_had(group, clock):
    """Ten seconds without a sign of life."""
    group.ask("a", drain={"requests": 0.0})
    group.ask("dead")
    for _ in range(11):
        clock.now += 1.0
        answer = group.ask("a")
    assert answer["members"] == 1
    assert answer["share"] == 1.0
    assert answer["level"]["requests"] == pytest.approx(CAPACITY)


def test_who_leaves_is_gone_at_once(group):
    """Its share is the others' from then on."""
    group.ask("a")
    assert group.ask("b")["members"] == 2
    group.ask("b", leave=True)
    assert group.ask("a")["members"] == 1


def test_what_is_told_twice_counts_once(group):
    """The answer to a call may be lost; then it comes again with its number."""
    group.ask("a", want=50.0)
    before = group.level()
    group.ask("a", back={"requests": 5.0}, seq=1)
    assert group.level() == pytest.approx(before)


def test_a_correction_by_who_has_not_heard_of_the_last_one_is_dropped(group):
    """Eight that see the same headers correct the level once, not eight times."""
    group.ask("a")
    group.ask("b")
    old = group.version
    group.ask("a", fix={"requests": -20.0})
    group.version = old
    group.ask("b", fix={"requests": -20.0})
    assert group.level() == pytest.approx(80.0)


def test_the_smallest_that_is_declared_holds_while_its_member_is_there(group, clock):
    """All hear of it when that goes, or dies, or is told another one."""
    third = 1_000.0 / 3.0
    a, b = {"requests": {"told": third}}, {"requests": {"told": 5.0, "burst_told": 2.0}}
    assert group.ask("a", declared=a)["terms"]["requests"]["told"] == pytest.approx(third)
    terms = group.ask("b", declared=b)["terms"]["requests"]
    assert (terms["told"], terms["burst_told"]) == (5.0, 2.0)
    version = group.version
    group.ask("b", declared=b, leave=True)
    told = group.ask("a", declared=a)
    assert told["version"] > version
    assert told["terms"]["requests"]["told"] == pytest.approx(third)
    assert "burst_told" not in told["terms"]["requests"]
    assert group.ask("a", declared=a)["version"] == told["version"]


def test_what_happened_while_all_were_cut_off_is_not_earned(group, clock):
    """They have gone on alone, and used it."""
    group.ask("a", drain={"requests": 0.0})
    clock.now += 20.0
    assert group.level() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("back", [0.3, 60.0, 3600.0])
def test_a_clock_set_back_earns_nothing_and_stalls_nobody(group, clock, back):
    """After a failover the clock is another one; from there it goes on."""
    group.ask("a", drain={"requests": 0.0}, closed=3.0)
    clock.now -= back
    assert group.level() == pytest.approx(0.0, abs=0.01)
    clock.now += 1.0
    assert group.level() == pytest.approx(10.0, abs=0.01)
    clock.now += 2.0
    assert group.got(want=1.0) == 1.0


def test_members_that_remember_correct_a_state_made_from_nothing(group):
    """A Redis that comes back empty is not full."""
    group.ask("new", level={"requests": 100.0})
    group.ask("old", level={"requests": 2.0})
    assert group.level("new") <= 2.0 + 1e-6


def test_a_closed_pool_grants_nothing_to_anybody(group, clock):
    """One is told to wait; all wait."""
    group.ask("a", closed=3.0)
    answer = group.ask("b", want=1.0)
    assert not answer["got"]
    assert answer["closed"] == pytest.approx(3.0)
    clock.now += 3.1
    assert group.got("b", want=1.0) == 1.0


def test_while_the_breaker_is_open_one_probe_goes_at_a_time(group, clock):
    """Whose breaker opens opens all; when the pause is over, one of them asks."""
    group.ask("a", breaker="open", pause=2.0, lasted=0.0)
    assert not group.ask("b", want=5.0)["got"]
    clock.now += 2.1
    probe = group.ask("b", want=5.0)
    assert probe["probe"]
    assert probe["got"] == {"requests": 1.0}
    assert not group.ask("a", want=5.0)["got"]
    group.ask("b", breaker="closed")
    answer = group.ask("a", want=5.0)
    assert answer["got"] == {"requests": 5.0}
    assert answer.get("breaker") is None


def test_a_probe_goes_where_nothing_is_wanted_for_it(group, clock):
    """No limit is known, or enough has been granted before; and its answer may have been lost."""
    group.ask("a", breaker="open", pause=2.0, lasted=0.0, terms={})
    clock.now += 2.1
    assert not group.ask("b", terms={})["probe"]
    assert group.ask("b", probes=True, terms={})["probe"]
    assert not group.ask("a", probes=True, terms={})["probe"]
    assert group.ask("b", probes=True, terms={})["probe"]


def test_an_overload_that_all_see_cuts_once(group, clock):
    """All know how often; each cuts its own window."""
    assert group.ask("a")["cuts"] == 0
    group.ask("a", cut=True)
    assert group.ask("b", cut=True)["cuts"] == 1
    clock.now += 2.1
    assert group.ask("b", cut=True)["cuts"] == 2


def test_how_fast_the_organisation_may_grow_is_told_to_all(group, clock):
    """In spans, as everything."""
    assert "growth" not in group.ask("a")
    group.ask("a", growth={"allowance": 50_000.0, "step": 20_000.0, "ends": 40.0})
    clock.now += 30.0
    told = group.ask("b")["growth"]
    number = told.pop("told")
    assert told == {"allowance": 50_000.0, "step": 20_000.0, "ends": pytest.approx(10.0)}
    group.ask("a", growth={"allowance": 50_000.0, "step": 20_000.0, "ends": 40.0})
    assert group.ask("b")["growth"]["told"] == number + 1


def test_after_all_is_lost_what_limits_growth_is_news_again(group, clock):
    """Its number is not one that has been heard before."""
    growth = {"allowance": 50_000.0, "step": 20_000.0, "ends": 40.0}
    before = group.ask("a", growth=growth)["growth"]["told"]
    group._client.flushall()
    clock.now += 30.0
    assert group.ask("a", growth=growth)["growth"]["told"] != before


def simulate_permits(group, clock, most, members, rounds=200):
    """All start as many as they may, and end some; the most in flight ever, and each one's mean."""
    flying = dict.fromkeys(members, 0)
    seen, peak = dict.fromkeys(members, 0.0), 0
    for step in range(rounds):
        clock.now += 0.1
        for number, member in enumerate(members):
            told = group.ask(member, most=most, running=flying[member], waiting=50)
            flying[member] = max(flying[member], int(told["permits"]))
            peak = max(peak, sum(flying.values()))
            if (step + number) % 3 == 0:
                flying[member] = max(0, flying[member] - 1)
            seen[member] += flying[member] / rounds
    return peak, seen


def test_permits_pass_from_one_to_the_other_as_requests_end(group):
    """The first has them all, and starts nothing more until it has no more than its part."""
    assert group.ask("a", most=12, waiting=50)["permits"] == 12
    assert group.ask("b", most=12, waiting=50)["permits"] == 0
    assert group.ask("a", most=12, running=12, waiting=50)["permits"] == 6
    assert group.ask("b", most=12, waiting=50)["permits"] == 0
    assert group.ask("a", most=12, running=8, waiting=50)["permits"] == 6
    assert group.ask("b", most=12, waiting=50)["permits"] == 4
    assert group.ask("b", most=12, running=1, waiting=1)["permits"] == 2
    assert group.ask("a", most=12, running=6, waiting=50)["permits"] == 10


def test_the_first_that_comes_back_to_an_empty_redis_has_not_the_permits_of_all(group, clock):
    """The other two of three are still at work. After a while they are gone."""
    assert group.ask("a", most=12, running=4, waiting=50, members=3)["permits"] == 4
    assert group.ask("b", most=12, running=4, waiting=50, members=3)["permits"] == 4
    assert group.ask("c", most=12, running=4, waiting=50, members=3)["permits"] == 4
    for _ in range(11):
        clock.now += 1.0
        told = group.ask("a", most=12, running=4, waiting=50, members=3)
    assert told["permits"] == 12


def test_permits_are_shared_and_never_too_many(group, clock):
    """Whoever comes first."""
    peak, seen = simulate_permits(group, clock, 12, "abc")
    assert peak <= 12
    assert all(count == pytest.approx(seen["a"], rel=0.2) for count in seen.values())


def test_where_permits_do_not_suffice_members_take_turns(group, clock):
    """Two for five."""
    peak, seen = simulate_permits(group, clock, 2, "abcde", rounds=150)
    assert peak <= 2
    assert min(seen.values()) > 0.15


def test_the_more_there_are_the_less_often_each_asks(group):
    """A call looks at all members, so that all together would keep Redis busy."""
    assert group.ask("first", want=1.0)["again"] == 0.0
    for number in range(40):
        answer = group.ask(f"m{number}", want=1.0)
    assert answer["again"] >= 0.4


def test_the_state_goes_away_by_itself(clock):
    """Nobody has to tidy up."""
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server)
    Group(client).ask("a")
    assert client.ttl("state") > 0
    assert client.ttl("pools") > 0
