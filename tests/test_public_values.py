"""The small values that people read off snapshots, events and errors."""

import orjson
import pytest

import claude_executor
from claude_executor import (
    Executor,
    Failed,
    FailureKind,
    HeldBy,
    Limits,
    LimitSource,
    MapJournal,
    Resource,
    SharingState,
    Usage,
    WhenUnreachable,
)
from claude_executor.bulk import Journal
from claude_executor.core.control.limit_estimator import LimitEstimator
from claude_executor.core.model.sharing import Membership


def test_limits_by_resource():
    """Every resource is there, with None where nothing is declared."""
    assert dict(Limits(rpm=50, otpm=8_000).by_resource()) == {
        Resource.REQUESTS: 50,
        Resource.INPUT: None,
        Resource.OUTPUT: 8_000,
        Resource.TOKENS: None,
    }


def test_a_limit_names_its_source():
    """Not known, declared by the user, or read from response headers."""
    unknown = LimitEstimator(Resource.REQUESTS, None, burst=None, now=0.0)
    declared = LimitEstimator(Resource.REQUESTS, 60.0, burst=None, now=0.0)
    assert (unknown.source, declared.source) == (LimitSource.UNKNOWN, LimitSource.DECLARED)
    assert LimitSource.HEADERS == "response headers"


@pytest.mark.parametrize("name", ["HeldBy", "LimitSource", "Resource", "SharingState", "BreakerState"])
def test_enums_are_plain_strings_in_json(name):
    """What a snapshot holds can be written as JSON without a converter."""
    members = list(getattr(claude_executor, name))
    assert orjson.loads(orjson.dumps(members)) == [member.value for member in members]


def test_a_resource_holds_the_queue_under_its_own_name():
    """Whatever limits a pool, a resource and what holds its queue are the same word."""
    assert {resource.value for resource in Resource} < {held.value for held in HeldBy}
    assert HeldBy.BUDGET == "shared budget"


def test_a_member_degrades_unless_told_otherwise():
    """And is in one of three states."""
    assert Membership().when_unreachable is WhenUnreachable.DEGRADE
    assert set(SharingState) == {SharingState.JOINING, SharingState.SHARED, SharingState.ALONE}


def test_usages_add_up_and_keep_how_the_last_one_was_served():
    """Counts add; speed, place and tier are those of the other one."""
    both = Usage(10, 20, cache_read_tokens=5, tier="standard").plus(Usage(1, 2, searches=1, tier="batch"))
    assert (both.input_tokens, both.output_tokens, both.cache_read_tokens) == (11, 22, 5)
    assert (both.searches, both.tier) == (1, "batch")


@pytest.mark.parametrize(
    ("kind", "retryable"), [(FailureKind.OVERLOADED, True), (FailureKind.INVALID, False)]
)
def test_a_failure_says_whether_it_may_succeed_later(kind, retryable):
    """As the table of policies does."""
    assert Failed("no", kind=kind, attempts=1).retryable is retryable


async def test_a_journal_fits_the_protocol_of_map(tmp_path):
    """`bulk.Journal` is a `MapJournal`, which may as well be written by others."""
    async with Executor(api_key="k") as executor:
        journal: MapJournal = Journal(tmp_path / "journal.jsonl")
        assert [result async for result in executor.map([], journal=journal)] == []
        async with journal:
            assert journal.find(0, {"model": "m", "max_tokens": 1, "messages": []}) is None
