"""`ResultLine`: one reading of a line, at a glance or in full, strict for a start, lenient for a report."""

import math

import orjson
import pytest

from claude_executor import Usage
from claude_executor.bulk.results.line import (
    NotAResult,
    Provenance,
    ResultLine,
    errored,
    is_whole,
    succeeded,
)

MARK = Provenance(7, 1.5, 3, 0.25, 2.0)
MESSAGE = {"model": "claude-haiku-5-5", "usage": {"input_tokens": 1, "output_tokens": 2}, "content": []}


@pytest.mark.parametrize(
    "line",
    [
        succeeded("a", MESSAGE, {}, MARK),
        succeeded('say "a"', MESSAGE, {}, MARK),
        succeeded("\ud800", MESSAGE, {"place": 1}, MARK),
        errored("a", ValueError("no"), {}, MARK),
        errored("a", RuntimeError("no"), {}, MARK),
        b'{"custom_id": "a", "result": {"type": "expired"}}',
    ],
)
def test_a_glance_sees_what_a_parse_sees(line):
    """It only looks at less of the line."""
    assert ResultLine.glance(line) == ResultLine.parse(line).entry()


def test_the_columns_of_a_line():
    """What is written is what is read."""
    line = ResultLine.parse(succeeded("a", MESSAGE, {}, MARK._replace(copy_of="b")))
    assert (line.custom_id, line.type, line.model, line.is_copy) == ("a", "succeeded", MESSAGE["model"], True)
    assert (line.usage, line.message) == (Usage(1, 2), MESSAGE)
    assert line.measured == (1.5, 0.25, 2.0, 3)
    failed = ResultLine.parse(errored("a", ValueError("no"), {}, Provenance(7, 1.5)))
    assert failed.error == {"type": "invalid_request_error", "message": "no"}
    assert (failed.usage, failed.message, failed.is_copy) == (None, None, False)
    assert [math.isnan(number) for number in failed.measured] == [False, True, True, True]


@pytest.mark.parametrize("odd", [None, 1, True, "x", [], {}, [[]], 1e300])
def test_odd_columns_are_empty(odd):
    """A report reads what is there."""
    value = {"custom_id": odd, "executor": odd, "result": {"type": odd, "message": odd, "error": odd}}
    line = ResultLine.parse(orjson.dumps(value))
    assert (line.custom_id, line.usage, line.is_copy) == (str(odd), None, False)
    assert line.error in ({}, odd)
    assert all(map(math.isnan, line.measured))


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id":1,"result":{"type":"succeeded"}}',
        b'{"custom_id":"a","result":{"type":1}}',
        b'{"custom_id":"a","result":{"type":"errored"}}',
        b'{"custom_id":"a","result":{"type":"errored","error":{"error":{"type":["x"]}}}}',
        b'{"custom_id":"a","result":{"type":"succeeded"},"executor":{}}',
        b'{"custom_id":"a","result":{"type":"succeeded"},"executor":{"hash":"-1"}}',
        b'{"custom_id":"a","result":"succeeded"}',
        b"[1]",
        b"",
    ],
)
def test_a_start_takes_no_odd_line_for_a_result(line):
    """It may be an answer that was paid for, so it is not passed over in silence either."""
    with pytest.raises(NotAResult):
        ResultLine.glance(line)


def test_a_line_that_is_nested_too_deeply_is_not_a_result():
    """No parser takes it, and none of them ends the program."""
    deep = b'{"custom_id":"a","result":' + 100_000 * b"["
    assert not is_whole(deep)
    with pytest.raises(NotAResult):
        ResultLine.parse(deep)
