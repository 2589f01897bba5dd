"""Who is next: priority, fair shares, and no overtaking."""

import random
import time
from itertools import count, cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.factories import a_job

from claude_executor.core.control.fair_queue import FairQueue
from claude_executor.core.model.job import Phase

examples = settings(max_examples=60, deadline=None)


def a_line(*jobs):
    """A line in which these stand."""
    line = FairQueue()
    for job in jobs:
        line.push(job)
    return line


def cancel(line, job):
    """A job is over and its line is told."""
    job.phase = Phase.OVER
    line.discard(job)


def drained(line):
    """Everybody in the order of their turns."""
    jobs = []
    while line.head() is not None:
        jobs.append(line.pop())
    return jobs


def numbers(jobs):
    """Who they are."""
    return [job.number for job in jobs]


def sizes(shared):
    """How many flows a line remembers at every level."""
    return len(shared._flows) + sum(
        sizes(flow.queue) for flow in shared._flows.values() if hasattr(flow.queue, "_flows")
    )


def remembered(line):
    """How many flows a line remembers in all."""
    return sum(sizes(shared) for shared in line._shares.values())


# ---- order


def test_nobody_is_in_an_empty_line():
    """It has no head, no length and nobody to let go."""
    line = FairQueue()
    assert (line.head(), len(line), line.jobs()) == (None, 0, [])
    with pytest.raises(LookupError, match="the queue is empty"):
        line.pop()


def test_jobs_that_are_alike_go_in_order_of_arrival():
    """One tenant, one size_class: a queue."""
    line = a_line(*(a_job(number) for number in range(10)))
    assert numbers(drained(line)) == list(range(10))


def test_higher_priorities_go_first():
    """Whatever came when, and whatever it costs."""
    jobs = [
        a_job(n, priority=p, charge=c)
        for n, (p, c) in enumerate([(0, 0.1), (-5, 0), (7, 99), (0, 1), (7, 5)])
    ]
    assert numbers(drained(a_line(*jobs))) == [2, 4, 0, 3, 1]


def test_jobs_that_come_back_keep_their_places():
    """Three refused together stand again as they stood, before those that came after them."""
    line = a_line(a_job(4), a_job(5))
    for number in (3, 1, 2):
        line.push(a_job(number))
    assert numbers(drained(line)) == [1, 2, 3, 4, 5]


def test_a_crowd_that_is_cancelled_is_swept_out():
    """The line does not keep those who have left, however far from its head they stood."""
    line = FairQueue()
    jobs = [a_job(n) for n in range(5_000)]
    for job in jobs:
        line.push(job)
    for job in jobs[1:]:
        cancel(line, job)
    kept = line._shares[0]._flows[""].queue._flows[jobs[0].size_class].queue._jobs
    assert len(kept) < 2_500
    assert drained(line) == jobs[:1]


def test_looking_changes_nothing():
    """The head is the same however often it is asked for, and it is who is let go."""
    line = a_line(*(a_job(n, tenant=str(n % 3), charge=n) for n in range(9)))
    while (head := line.head()) is not None:
        assert line.head() is head
        assert line.pop() is head


# ---- shares


def served(line):
    """Seconds given to each tenant, step by step, while everybody is waiting."""
    given_ = {job.tenant: 0.0 for job in line.jobs()}
    left = {tenant: sum(job.tenant == tenant for job in line.jobs()) for tenant in given_}
    steps = [dict(given_)]
    while all(left.values()):
        line.head()
        job = line.pop()
        given_[job.tenant] += job.charge
        left[job.tenant] -= 1
        steps.append(dict(given_))
    return steps


charges = st.lists(st.floats(0.01, 10), min_size=1, max_size=40)


@examples
@given(st.lists(charges, min_size=2, max_size=4), st.integers(1, 4))
def test_between_two_tenants_no_more_than_a_request_each_is_unfair(tenants, builds):
    """Over any span in which both wait, what they get differs by at most their largest requests together."""
    line, number = FairQueue(), count()
    for tenant, sequence in enumerate(tenants):
        for charge in sequence:
            n = next(number)
            line.push(a_job(n, tenant=str(tenant), charge=charge, size_class=("", n % builds)))
    steps = served(line)
    for a in range(len(tenants)):
        for b in range(a):
            gaps = [step[str(a)] - step[str(b)] for step in steps]
            assert max(gaps) - min(gaps) <= max(tenants[a]) + max(tenants[b]) + 1e-9


@examples
@given(
    st.lists(
        st.tuples(st.integers(20, 60), st.floats(0.01, 0.1) | st.floats(0.5, 2.0)), min_size=2, max_size=4
    )
)
def test_builds_of_one_tenant_run_dry_together(builds):
    """Whatever there is of each: none is far ahead of another in the share of its work that is done."""
    line, number = FairQueue(), count()
    for size_class, (jobs, charge) in enumerate(builds):
        for _ in range(jobs):
            line.push(a_job(next(number), size_class=("", size_class), charge=charge))
    done = [0] * len(builds)
    for _ in range(sum(jobs for jobs, _ in builds)):
        line.head()
        done[line.pop().size_class[1]] += 1
        shares = [part / jobs for part, (jobs, _) in zip(done, builds, strict=True)]
        assert max(shares) - min(shares) <= 0.2


def test_a_single_request_of_its_build_does_not_wait_for_the_many():
    """It goes next, not when the others run dry."""
    line = a_line(*(a_job(n, size_class=("requests", 0), charge=0.1) for n in range(1_000)))
    for _ in range(10):
        line.head()
        line.pop()
    line.push(a_job(1_000, size_class=("input tokens", 3), charge=5.0))
    assert 1_000 in [job.number for job in drained(line)[:3]]


def test_cancelled_requests_have_no_weight():
    """Their size_class gets no turns for them."""
    line = FairQueue()
    crowd = [a_job(n, size_class=("requests", 0)) for n in range(900)]
    rest = [a_job(n, size_class=("requests", 1)) for n in range(900, 1_000)]
    for job in [*crowd, *rest]:
        line.push(job)
    for job in crowd[100:]:
        cancel(line, job)
    order = [job.size_class[1] for job in drained(line)]
    assert 35 <= order[:100].count(1) <= 65


def test_the_number_of_requests_gives_no_advantage():
    """Ten thousand waiting or ten: the one with ten is done after twenty turns."""
    line = a_line(*(a_job(n, tenant="bulk") for n in range(1_000)))
    for n in range(10):
        line.push(a_job(n, tenant="small"))
    order = [job.tenant for job in drained(line)]
    assert order[:22].count("small") == 10


def test_a_file_sorted_by_size_runs_mixed():
    """Small and large requests of one tenant take turns by what they occupy."""
    small = [a_job(n, size_class=("requests", -3), charge=0.1) for n in range(300)]
    large = [a_job(n, size_class=("input tokens", 1), charge=3.0) for n in range(300, 310)]
    order = [job.charge for job in drained(a_line(*small, *large))]
    for start in range(0, 250, 62):
        assert 1 <= order[start : start + 62].count(3.0) <= 3


def test_requests_without_a_charge_take_turns():
    """Before any limit is known every request is free, and nobody is shut out for it."""
    line = a_line(*(a_job(n, tenant="a", charge=0.0) for n in range(50)))
    for n in range(50):
        line.push(a_job(n, tenant="b", charge=0.0))
    tenants = [job.tenant for job in drained(line)]
    assert 4 <= tenants[:10].count("a") <= 6


def test_a_tenant_that_was_away_gets_nothing_for_it():
    """After a thousand turns of another, it takes turns; it does not catch up."""
    line = a_line(*(a_job(n, tenant="steady") for n in range(2_000)))
    for _ in range(1_000):
        line.head()
        line.pop()
    for n in range(100):
        line.push(a_job(n, tenant="back"))
    tenants = [job.tenant for job in drained(line)][:20]
    assert 9 <= tenants.count("back") <= 11


def test_pausing_does_not_pay():
    """Who has just had a large request does not become a newcomer by letting his line run dry."""
    line = a_line(a_job(0, tenant="greedy", charge=10.0), *(a_job(n, tenant="other") for n in range(1, 50)))
    line.head()
    assert line.pop().tenant == "greedy"
    line.head()
    line.pop()
    line.push(a_job(99, tenant="greedy", charge=10.0))
    tenants = [job.tenant for job in drained(line)]
    assert 7 <= tenants.index("greedy") <= 10


@pytest.mark.parametrize(("surcharge", "share"), [(9.0, 10), (0.0, 1), (1.0, 2)])
def test_what_a_request_took_beyond_its_estimate_is_charged_too(surcharge, share):
    """A tenant whose answers are dearer than estimated gets fewer, though it always has some waiting."""
    line = FairQueue()
    for n in range(1_000):
        line.push(a_job(n, tenant="dear"))
        line.push(a_job(n, tenant="fair"))
    turns = {"dear": 0, "fair": 0}
    for _ in range(550):
        line.head()
        job = line.pop()
        turns[job.tenant] += 1
        if job.tenant == "dear":
            line.adjust(job, surcharge)
    assert turns["fair"] / turns["dear"] == pytest.approx(share, rel=0.1)


def test_what_a_request_did_not_take_is_given_back():
    """Estimated at ten and settled at one is charged as one, as soon as it is known."""
    line = FairQueue()
    for n in range(1_000):
        line.push(a_job(n, tenant="modest", charge=10.0))
        line.push(a_job(n, tenant="fair", charge=1.0))
    turns = {"modest": 0, "fair": 0}
    for _ in range(200):
        line.head()
        job = line.pop()
        turns[job.tenant] += 1
        if job.tenant == "modest":
            line.adjust(job, -9.0)
    assert turns["fair"] / turns["modest"] == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("how", ["pausing", "all have cancelled"])
def test_a_surcharge_is_not_forgotten_while_nobody_of_the_tenant_waits(how):
    """What an answer took is known only when it comes; by then the tenant's line may have run dry."""
    line = a_line(*(a_job(n, tenant="other") for n in range(1, 60)))
    first = a_job(0, tenant="dear")
    line.push(first)
    while line.head() is not first:
        line.pop()
    line.pop()
    if how == "pausing":
        line.adjust(first, 20.0)
    else:
        second = a_job(99, tenant="dear")
        line.push(second)
        line.adjust(first, 20.0)
        cancel(line, second)
        for _ in range(3):
            line.head()
            line.pop()
    line.push(a_job(100, tenant="dear"))
    tenants = [job.tenant for job in drained(line)]
    assert 15 <= tenants.index("dear") <= 22


def test_a_surcharge_for_somebody_nobody_remembers_is_nothing():
    """A tenant that is long gone, or a priority never seen."""
    line = FairQueue()
    line.adjust(a_job(1, priority=3), 5.0)
    line.push(a_job(2))
    line.adjust(a_job(1, tenant="unknown"), 5.0)
    line.adjust(a_job(1, size_class=("unknown", 9)), 5.0)
    assert numbers(drained(line)) == [2]


# ---- no overtaking


@examples
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.floats(0, 10)), min_size=1, max_size=60
    ),
    st.randoms(use_true_random=False),
)
def test_the_head_stays_the_head_until_it_starts(arrivals, chance):
    """Newcomers of its priority go behind it, whoever they are and however small."""
    line = FairQueue()
    for number, (tenant, size_class, charge) in enumerate(arrivals):
        head = line.head()
        line.push(a_job(number, tenant=tenant, size_class=("", size_class), charge=charge))
        assert head is None or line.head() is head
        if chance.random() < 0.5:
            line.head()
            line.pop()


@pytest.mark.parametrize("newcomers", ["of other builds", "of one tenant", "of ever new tenants"])
def test_a_large_request_at_the_head_is_not_starved_by_an_endless_row_of_small_ones(newcomers):
    """While it waits for its tokens small ones keep coming; none of them passes."""
    number = count(10)

    def newcomer():
        n = next(number)
        if newcomers == "of other builds":
            return a_job(n, size_class=("requests", -3), charge=0.01)
        return a_job(n, tenant="small" if newcomers == "of one tenant" else str(n), charge=0.01)

    line = a_line(a_job(1, size_class=("", 5), charge=60.0), a_job(2, size_class=("", 5), charge=60.0))
    line.head()
    line.pop()
    assert line.head().number == 2
    for _ in range(1_000):
        line.push(newcomer())
        assert line.head().number == 2


@examples
@given(flows=st.integers(1, 6), small=st.floats(0.01, 1), seed=st.integers(0, 5))
def test_a_large_request_waits_no_longer_than_its_share(flows, small, seed):
    """It waits for one request of every other flow, the next one for its charge in each, and no longer."""
    chance = random.Random(seed)
    line = FairQueue()

    def refill(flow):
        line.push(a_job(0, tenant=f"t{flow}", charge=small))

    for flow in range(flows):
        refill(flow)
        refill(flow)
    for _ in range(chance.randrange(50)):
        line.head()
        refill(int(line.pop().tenant[1:]))
    large = 20 * small
    line.push(a_job(1, tenant="large", charge=large))
    line.push(a_job(2, tenant="large", charge=large))
    passed, bounds = 0.0, [flows * small, flows * (large + small)]
    while bounds:
        line.head()
        job = line.pop()
        if job.tenant == "large":
            bounds.pop(0)
            passed = 0.0
        else:
            passed += job.charge
            refill(int(job.tenant[1:]))
            assert passed <= bounds[0] + small + 1e-9


# ---- cancelling


def test_who_has_cancelled_is_skipped():
    """At the head, in the middle and at the end; the others keep their order."""
    jobs = [a_job(n, tenant=str(n % 2)) for n in range(10)]
    line = a_line(*jobs)
    for n in (0, 1, 4, 9):
        cancel(line, jobs[n])
    assert len(line) == 6
    assert sorted(numbers(line.jobs())) == [2, 3, 5, 6, 7, 8]
    order = numbers(drained(line))
    assert [n for n in order if n % 2 == 0] == [2, 6, 8]
    assert [n for n in order if n % 2 == 1] == [3, 5, 7]


def test_a_flow_of_which_all_have_cancelled_is_no_obstacle():
    """A tenant that is gone is not waited for, and a cancelled request was not charged."""
    gone = [a_job(n, tenant="gone", charge=100.0) for n in range(5)]
    line = a_line(*gone, a_job(9, tenant="here"))
    for job in gone:
        cancel(line, job)
    assert line.head().number == 9
    line.push(a_job(10, tenant="gone"))
    line.pop()
    line.push(a_job(11, tenant="here"))
    assert line.head().number == 10


def test_cancelling_twenty_thousand_is_quick():
    """Each is a mark; nobody walks the line."""
    jobs = [a_job(n, tenant=str(n % 7), size_class=("", n % 5)) for n in range(20_000)]
    line = a_line(*jobs)
    begun = time.process_time()
    for job in reversed(jobs):
        cancel(line, job)
    assert line.head() is None
    assert len(line) == 0
    assert time.process_time() - begun < 2.0


# ---- memory


def test_ever_new_tenants_leave_nothing_behind():
    """A service with a tenant for each user does not grow, also while its line is never empty."""
    line = a_line(*(a_job(n, tenant=f"standing {n}") for n in range(20)))
    begun = time.process_time()
    for n in range(20_000):
        line.push(a_job(n, tenant=f"user {n}"))
        line.head()
        line.pop()
    assert remembered(line) < 5_000
    assert time.process_time() - begun < 4.0


def test_a_line_that_runs_dry_forgets():
    """With nobody waiting there is nothing to be fair about."""
    line = FairQueue()
    for n in range(3_000):
        line.push(a_job(n, tenant=f"user {n}", size_class=("", n % 9)))
        line.head()
        line.pop()
        line.head()
    assert remembered(line) < 10


def test_ever_new_priorities_leave_nothing_behind():
    """Somebody who uses the time of day as a priority gets a line that works."""
    line = FairQueue()
    for n in range(3_000):
        line.push(a_job(n, priority=n))
        assert line.pop().number == n
    assert len(line._shares) < 100


def test_a_tenant_in_debt_is_not_forgotten_for_a_few_others():
    """Tidying up must not pay either."""
    line = a_line(a_job(0, tenant="greedy", charge=50.0), *(a_job(n, tenant="other") for n in range(1, 90)))
    line.head()
    line.pop()
    for n in range(30):
        line.push(a_job(n, tenant=f"user {n}", charge=0.01))
    for _ in range(40):
        line.head()
        line.pop()
    line.push(a_job(99, tenant="greedy", charge=50.0))
    tenants = [job.tenant for job in drained(line)]
    assert tenants.index("greedy") > 25


class AnyCrowd(RuleBasedStateMachine):
    """Jobs of all kinds join, cancel and go, beside a plain list that knows who is there."""

    @initialize()
    def begin(self):
        self.line = FairQueue()
        self.there = []
        self.number = 0

    @rule(
        priority=st.integers(-1, 1),
        tenant=st.sampled_from("abc"),
        size_class=st.integers(0, 2),
        charge=st.floats(0, 5),
        back=st.sampled_from([False, False, False, True]),
    )
    def join(self, priority, tenant, size_class, charge, back):
        self.number += 1
        number = -self.number if back else self.number  # one that comes back is older
        job = a_job(number, priority=priority, tenant=tenant, size_class=("", size_class), charge=charge)
        self.line.push(job)
        self.there.insert(0 if back else len(self.there), job)

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0))
    def cancel(self, which):
        cancel(self.line, self.there.pop(which % len(self.there)))

    @precondition(lambda self: self.there)
    @rule()
    def go(self):
        head = self.line.head()
        assert self.line.pop() is head
        alike = [
            job
            for job in self.there
            if (job.priority, job.tenant, job.size_class) == (head.priority, head.tenant, head.size_class)
        ]
        assert alike[0] is head
        assert head.priority == max(job.priority for job in self.there)
        self.there.remove(head)

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0), surcharge=st.floats(-5, 5))
    def adjust(self, which, surcharge):
        self.line.adjust(self.there[which % len(self.there)], surcharge)

    @invariant()
    def the_line_knows_who_is_there(self):
        assert len(self.line) == len(self.there)
        assert {job.number for job in self.line.jobs()} == {job.number for job in self.there}
        assert (self.line.head() is None) is (not self.there)


TestAnyCrowd = AnyCrowd.TestCase
TestAnyCrowd.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


def test_an_endless_mix_serves_everybody():
    """Three tenants with different sizes of request get thirds of the time over the long run."""
    line, got = FairQueue(), {"a": 0.0, "b": 0.0, "c": 0.0}
    size = {"a": 0.1, "b": 1.0, "c": 7.0}
    for tenant in islice(cycle("abc"), 30):
        line.push(a_job(0, tenant=tenant, charge=size[tenant]))
    for _ in range(5_000):
        line.head()
        job = line.pop()
        got[job.tenant] += job.charge
        line.push(a_job(0, tenant=job.tenant, charge=job.charge))
    total = sum(got.values())
    assert all(share / total == pytest.approx(1 / 3, rel=0.05) for share in got.values())
