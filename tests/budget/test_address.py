"""Addresses of Redis: what is read out of one. Nothing is connected."""

import traceback

import pytest

from claude_executor import RedisBudget
from claude_executor.budget.address import connect


def of_primary(client):
    return client.connection_pool.connection_kwargs


def of_sentinels(client):
    manager = client.connection_pool.sentinel_manager
    return [sentinel.connection_pool.connection_kwargs for sentinel in manager.sentinels]


def test_sentinels_are_asked_for_the_service():
    """All that are named, at the usual port where none is told."""
    client = connect("redis+sentinel://one:1,two,[::1]:3/mine/4", 1.0)
    assert client.connection_pool.service_name == "mine"
    assert [(s["host"], s["port"]) for s in of_sentinels(client)] == [("one", 1), ("two", 26379), ("::1", 3)]
    assert of_primary(client)["db"] == 4


def test_a_sentinel_that_does_not_answer_leaves_time_for_the_next():
    """All of it together takes no longer than a Redis may."""
    each = [s["socket_connect_timeout"] for s in of_sentinels(connect("redis+sentinel://a,b,c/mine", 1.0))]
    assert sum(each) < 1.0


def test_redis_and_its_sentinels_have_passwords_of_their_own():
    """A Sentinel that has none refuses one."""
    client = connect("redis+sentinel://me:p%40ss@one/mine?sentinel_password=other", 1.0)
    assert (of_primary(client)["username"], of_primary(client)["password"]) == ("me", "p@ss")
    (sentinel,) = of_sentinels(client)
    assert sentinel["password"] == "other"
    assert sentinel.get("username") is None


def test_tls_is_for_both():
    """Who encrypts the one does not tell the other in the clear."""
    client = connect("rediss+sentinel://one/mine", 1.0)
    assert client.connection_pool.connection_class.__name__ == "SentinelManagedSSLConnection"
    manager = client.connection_pool.sentinel_manager
    assert {s.connection_pool.connection_class.__name__ for s in manager.sentinels} == {"SSLConnection"}


@pytest.mark.parametrize(
    "wrong",
    [
        "redis+sentinel://host",
        "redis+sentinel:///mine",
        "redis+sentinel://one,,two/mine",
        "http+sentinel://one/mine",
        "redis+sentinel://one/mine/not-a-number",
        "redis+sentinel://one:port/mine",
    ],
)
def test_a_wrong_address_says_what_a_right_one_is(wrong):
    """And does not repeat itself: it may hold a password."""
    with pytest.raises(ValueError, match=r"redis\+sentinel://host:port,host:port/service"):
        connect(wrong.replace("://", "://:secret@", 1), 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "http://:s3cret@h",
        "redis://user:s3cret/x@h",
        "redis://:s3cret#x@h",
        "redis://:s3cret@h:99999",
        "redis://:s3cret@[::1",
        "unix://",
    ],
)
def test_a_wrong_address_is_told_when_the_budget_is_made_without_its_password(wrong):
    """And not by the executor that uses it."""
    with pytest.raises(ValueError, match="redis://host:port/db") as caught:
        RedisBudget(wrong, group="team")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value)).replace(wrong, "")


@pytest.mark.parametrize(
    "right",
    [
        "redis://h",
        "redis://:p%2F%23%40@h:6379/0",
        "rediss://[::1]:6379",
        "unix:///run/redis.sock?db=1",
        "redis://",
    ],
)
def test_a_right_address_is_one(right):
    """Nothing is connected."""
    connect(right, 1.0)
    RedisBudget(right, group="team")


def test_an_option_that_redis_does_not_know_is_told_without_the_password():
    """Which is seen when the client is made."""
    with pytest.raises(ValueError, match="redis://host:port/db"):
        connect("redis://:s3cret@h?socket_timeout=abc", 1.0)
