"""Batch files made for OpenAI's chat completions: run unchanged where nothing is lost, refused otherwise."""

import orjson
import pytest

from claude_executor.bulk import BadInput, BadRow, read_row, rows_of, validate

USER = {"role": "user", "content": "the secret prompt"}
SYSTEM = {"role": "system", "content": "Be brief."}


def batch(**body: object) -> bytes:
    """A line of a batch file as OpenAI's documentation shows it."""
    body = {"model": "claude-haiku-5-5", "max_tokens": 10, "messages": [SYSTEM, USER], **body}
    body = {name: value for name, value in body.items() if value != "left out"}
    line = {"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps(line)


def test_a_batch_file_runs_unchanged(tmp_path):
    """System prompt, renamed and needless fields become those of a message."""
    path = tmp_path / "batch.jsonl"
    more = {"max_completion_tokens": 20, "max_tokens": "left out", "n": 1, "stop": "END", "user": "u7"}
    path.write_bytes(batch(temperature=0.2, seed=None, **more) + b"\n")
    assert validate(path).models == {"claude-haiku-5-5"}
    (row,) = rows_of(path)
    assert row.params == {
        "model": "claude-haiku-5-5",
        "max_tokens": 20,
        "messages": [USER],
        "system": "Be brief.",
        "temperature": 0.2,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u7"},
    }
    assert row.extras == {}


def test_a_messages_body_for_another_url_is_left_as_it_is():
    """A body that is one of Messages already stays so."""
    body = {"system": "Be brief.", "messages": [USER], "top_k": 5, "metadata": {"user_id": "x"}}
    row = read_row(batch(**body), 1)
    assert row.params == {"model": "claude-haiku-5-5", "max_tokens": 10, **body}


def test_several_system_messages_become_blocks():
    """What stands before the first question is the system prompt, in its order."""
    parts = {"role": "developer", "content": [{"type": "text", "text": "In English."}]}
    row = read_row(batch(messages=[SYSTEM, parts, USER]), 1)
    assert row.params["system"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "In English."},
    ]
    assert row.params["messages"] == [USER]


def test_later_system_messages_stay_where_they_are():
    """Their place has a meaning, and recent models take them; OpenAI's newer name for them is put right."""
    later = {"role": "developer", "content": "Now in French."}
    row = read_row(batch(messages=[USER, later]), 1)
    assert row.params["messages"] == [USER, {"role": "system", "content": "Now in French."}]
    assert "system" not in row.params


def test_system_messages_of_a_message_batches_file():
    """Before the first question they become the system prompt there too."""
    params = {"model": "m", "max_tokens": 5, "messages": [SYSTEM, USER]}
    row = read_row(orjson.dumps({"custom_id": "a", "params": params}), 1)
    assert (row.params["system"], row.params["messages"]) == ("Be brief.", [USER])


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (
            {"response_format": {"type": "json_object"}},
            "'response_format' has no equivalent in the Messages API",
        ),
        ({"seed": 0}, "'seed' has no equivalent in the Messages API; remove it"),
        ({"max_completion_tokens": 5}, "'max_completion_tokens' and 'max_tokens' mean the same"),
        ({"n": 2}, "write one row for each"),
        ({"temperature": 1.5}, "'temperature' must be at most 1"),
        ({"user": "u", "metadata": {"a": "b"}}, "'user' and 'metadata' cannot both be kept"),
        ({"metadata": {"a": "b"}}, "put the rest beside 'body'"),
        ({"service_tier": "flex"}, "'service_tier' must be"),
        ({"tool_choice": "auto"}, "'tool_choice' must be an object"),
        ({"tools": [{"type": "function", "function": {}}]}, "'tools' must have the Messages form"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "message 2 belongs to a tool call"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": []}]}, "message 2 belongs to a tool call"),
        ({"messages": [{**USER, "name": "Bob"}]}, "message 1 has a 'name'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "message 1 has a part of type 'image_url', which the Messages API does not have; write it as",
        ),
        ({"messages": [SYSTEM, USER], "system": "x"}, "put both into 'system'"),
        ({"messages": ["x"]}, "message 1 must be an object"),
        ({"messages": "x"}, "'messages' must be a list"),
        ({"messages": [{"role": ["x"], "content": "x"}]}, "message 1 must have a 'role'"),
    ],
)
def test_what_has_no_like_is_refused_with_the_line_and_what_to_change(tmp_path, body, what):
    """Nothing is left out in silence, and nothing of the content is told."""
    path = tmp_path / "batch.jsonl"
    path.write_bytes(batch(**body))
    with pytest.raises(BadInput) as caught:
        validate(path)
    (problem,) = caught.value.problems
    assert problem.line == 1
    assert what in problem.what
    assert "secret" not in str(caught.value)


def test_the_shorter_url_of_azure():
    """Azure's batch files leave out the version."""
    line = {"custom_id": "a", "url": "/chat/completions", "body": {"model": "m", "messages": [USER]}}
    with pytest.raises(BadRow, match="no 'max_tokens'"):
        read_row(orjson.dumps(line), 1)
