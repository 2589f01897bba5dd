"""Events as lines of a log."""

import json
import logging
from dataclasses import fields

import pytest

from claude_executor import FailureKind, Usage, observe
from claude_executor.core.model import events as ev
from claude_executor.core.model.failure import Scope

REQUEST = {"at": 12.0, "number": 7, "pool": "haiku-5.5", "model": "m", "tenant": "t", "submitted_at": 10.0}
POOL = {"at": 12.0, "pool": "haiku-5.5"}
FAILED = {"attempt": 1, "kind": FailureKind.SERVER, "status": 500, "request_id": "req_1", "usage": None}
SAMPLES = [
    (ev.RequestSubmitted(**REQUEST), "DEBUG", "request 7 submitted (m)"),
    (
        ev.AttemptStarted(**REQUEST, attempt=1, queue_time=2.0, held_by=None),
        "DEBUG",
        "request 7 sent after 2.000 s, attempt 1 (m)",
    ),
    (
        ev.AttemptStarted(**REQUEST, attempt=2, queue_time=2.0, held_by="output tokens"),
        "DEBUG",
        "request 7 sent after 2.000 s (held up by output tokens), attempt 2 (m)",
    ),
    (
        ev.RequestAnswered(**REQUEST, attempts=1, queue_time=1.0, duration=1.0, usage=Usage(5, 6)),
        "DEBUG",
        "request 7 answered in 1.000 s, attempt 1 (m)",
    ),
    (
        ev.AttemptFailed(**REQUEST, **FAILED, retry_in=1.5),
        "DEBUG",
        "request 7 failed, attempt 1: server error, HTTP 500; retry in 1.500 s (m)",
    ),
    (
        ev.AttemptFailed(**REQUEST, **{**FAILED, "status": None}, retry_in=None),
        "WARNING",
        "request 7 failed, attempt 1: server error; not retried (m)",
    ),
    (
        ev.RequestRefused(**REQUEST, reason="the queue is full"),
        "DEBUG",
        "request 7 refused: the queue is full (m)",
    ),
    (
        ev.RequestCancelled(**REQUEST, attempts=1, usage=None),
        "DEBUG",
        "request 7 cancelled, attempts: 1 (m)",
    ),
    (
        ev.PoolClosed(**POOL, kind=FailureKind.QUOTA, until=15.0),
        "INFO",
        "pool haiku-5.5 closed for 3.000 s: rate limit",
    ),
    (
        ev.LimitLearned(**POOL, resource="requests", limit=1_000.0, source="response headers"),
        "INFO",
        "pool haiku-5.5: limit 1,000 requests per minute (response headers)",
    ),
    (
        ev.BreakerChanged(**POOL, state="open", until=17.0),
        "WARNING",
        "pool haiku-5.5: circuit breaker open for at least 5.000 s",
    ),
    (ev.BreakerChanged(**POOL, state="closed", until=None), "INFO", "pool haiku-5.5: circuit breaker closed"),
    (
        ev.SharingChanged(**POOL, state="shared", members=8, share=0.125),
        "INFO",
        "pool haiku-5.5: shared, share of the limits 12%, members 8",
    ),
    (
        ev.SharingChanged(**POOL, state="alone", members=8, share=0.125),
        "WARNING",
        "pool haiku-5.5: alone, share of the limits 12%, members 8",
    ),
    (
        ev.SharingChanged(**POOL, state="alone", members=8, share=0.125, reason="TimeoutError"),
        "WARNING",
        "pool haiku-5.5: alone (TimeoutError), share of the limits 12%, members 8",
    ),
    (
        ev.RequestsStopped(
            at=12.0, kind=FailureKind.AUTHENTICATION, scope=Scope.EVERYTHING, until=float("inf")
        ),
        "ERROR",
        "stopped sending all requests: authentication",
    ),
]


@pytest.mark.parametrize(("event", "level", "text"), SAMPLES, ids=lambda x: type(x).__name__)
def test_every_event_is_a_line_with_its_fields(event, level, text, caplog):
    """The line is for people, the fields for programs: all of them, as JSON has them."""
    caplog.set_level(logging.DEBUG, "claude_executor")
    observe.to_log()(event)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, text)
    assert record.event == type(event).__name__
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "usage":
            assert value is None or (record.input_tokens, record.output_tokens) == (5, 6)
        else:
            written = getattr(record, field.name)
            assert json.loads(json.dumps(written, allow_nan=False)) == written
            assert written is None or written == getattr(value, "value", value)


def test_every_kind_of_event_has_been_tried():
    """An event that is new gets a line of its own."""
    kinds = {thing for thing in vars(ev).values() if isinstance(thing, type) and issubclass(thing, ev.Event)}
    assert {type(event) for event, *_ in SAMPLES} == kinds - {ev.Event, ev.RequestEvent}


def test_a_field_takes_the_place_of_no_other_attribute():
    """Formatters rely on what every record has."""
    usual = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    names = {field.name for kind in {type(event) for event, *_ in SAMPLES} for field in fields(kind)}
    names |= {"event", *Usage._fields}
    assert not names & usual


def test_the_ordinary_has_the_level_asked_for_and_the_rest_its_own(caplog):
    """Answers as INFO; a request that failed for good stays a warning."""
    logger = logging.getLogger("my.own")
    caplog.set_level(logging.INFO, "my.own")
    listen = observe.to_log(logger, level=logging.INFO)
    for event, *_ in SAMPLES:
        listen(event)
    assert [record.levelname for record in caplog.records] == [
        "INFO" if level == "DEBUG" else level for _, level, _ in SAMPLES
    ]
    assert {record.name for record in caplog.records} == {"my.own"}


def test_what_nobody_reads_is_not_made(caplog, monkeypatch):
    """Below the logger's level, an event costs a look at the level."""
    caplog.set_level(logging.WARNING, "claude_executor")
    monkeypatch.setattr("claude_executor.observe.log._fields", lambda event: pytest.fail("made"))
    observe.to_log()(SAMPLES[0][0])
    assert caplog.records == []
