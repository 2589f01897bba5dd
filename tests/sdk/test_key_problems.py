"""What cannot work is told before anything is sent: keys, params, addresses; and told without quoting it."""

from datetime import date

import anthropic
import pytest
from anthropic.types import TextBlock

from claude_executor import Executor, FailureKind, Rejected, Stopped
from claude_executor.sdk.redaction import redacted
from claude_executor.sdk.validation import check_params, key_problem
from claude_executor.simulator import Simulator
from claude_executor.testing import loop_time, simulated_client

MODEL = "claude-haiku-5-5"


def asking(content: object, **more: object) -> dict[str, object]:
    """A request whose message holds `content`."""
    return {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": content}], **more}


async def refused(simulator: Simulator, **options: object) -> Stopped:
    """How a request is refused by an executor whose client has these options."""
    client = simulated_client(simulator, **options)
    async with client, Executor(client=client, clock=loop_time) as executor:
        with pytest.raises(Stopped) as first:
            await executor.submit(asking("Hi"))
        with pytest.raises(Stopped):
            await executor.submit(asking("Hi"))
    assert simulator.verdict().requests == 0
    return first.value


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sk-ant-secret\n", "the API key contains a line break; check ANTHROPIC_API_KEY"),
        ("sk-ant\r\n-secret", "the API key contains a line break; check ANTHROPIC_API_KEY"),
        ("sk-ant\u2028secret", "the API key contains a line break; check ANTHROPIC_API_KEY"),
        ("sk-ant secret", "the API key contains a space; check ANTHROPIC_API_KEY"),
        (" sk-ant-secret", "the API key contains a space; check ANTHROPIC_API_KEY"),
        ("sk-ant-secret\t", "the API key contains a space; check ANTHROPIC_API_KEY"),
        ("sk-ant-secret\x7f", "an invalid character (a curly quote pasted from a document?)"),
        ("“sk-ant-secret”", "an invalid character (a curly quote pasted from a document?)"),
        ("", "the API key is empty; set ANTHROPIC_API_KEY (create a key at console.anthropic.com)"),
        ("  ", "the API key is empty; set ANTHROPIC_API_KEY (create a key at console.anthropic.com)"),
    ],
)
async def test_a_key_with_a_line_break_failed_row_by_row_with_an_odd_error(simulator, key, said):
    """A key that cannot stand in a header ends everything at once; what is wrong is said, the key is not."""
    error = await refused(simulator, api_key=key)
    assert isinstance(error, Rejected)
    assert error.kind is FailureKind.AUTHENTICATION
    assert said in str(error)
    assert "ANTHROPIC_API_KEY" in str(error)
    assert "secret" not in str(error)


async def test_a_missing_key_was_told_as_if_something_had_been_sent(simulator, monkeypatch, tmp_path):
    """Without a key nothing is sent, and the error is one of those that say so, with what to do."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    error = await refused(simulator, api_key=None)
    assert str(error).startswith("nothing was sent: ")
    assert "no API key found; set ANTHROPIC_API_KEY (create a key at console.anthropic.com)" in str(error)


async def test_a_profile_that_is_not_there_was_a_strange_error(monkeypatch, tmp_path):
    """Entering fails with an error of ours that keeps the SDK's reason."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nope")
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(Stopped, match=r"nothing was sent: no API key found: .*nope") as caught:
        await Executor().__aenter__()
    assert isinstance(caught.value.__cause__, anthropic.CredentialsError)


def test_a_header_of_the_users_own_is_a_key_too():
    """Where one header is empty and another holds a key, there is a key."""
    assert key_problem({"Authorization": "Bearer ", "X-Api-Key": "k"}) is None
    assert key_problem({"Authorization": "Bearer k", "user-agent": "a b"}) is None
    assert key_problem({}) is None


class Odd:
    """Has no form in JSON."""


CANNOT_BE_SENT = [
    (
        asking([{"type": "text", "text": Odd()}]),
        TypeError,
        "cannot encode 'messages.0.content.0.text': JSON has no form for Odd",
    ),
    (
        asking("x", output_format=Odd),
        TypeError,
        "cannot encode 'output_format': it is a class; pass a JSON schema",
    ),
    (asking(b"secret"), TypeError, "cannot encode 'messages.0.content': JSON has no form for bytes"),
    (asking(iter(["secret"])), TypeError, "cannot encode 'messages.0.content': an iterator "),
    (asking({Odd()}), TypeError, "cannot encode 'messages.0.content.0': JSON has no form for Odd"),
    (asking("secret \ud800"), ValueError, "cannot encode 'messages.0.content': the text contains half "),
    (asking("x", temperature=float("nan")), ValueError, "cannot encode 'temperature': JSON has no infinity "),
    (
        asking("x", extra_body={"a": Odd()}),
        TypeError,
        "cannot encode 'extra_body.a': JSON has no form for Odd",
    ),
    (
        asking("x", metadata={("secret",): 1}),
        TypeError,
        "cannot encode 'metadata': a key in it is of type tuple",
    ),
    (
        asking([{"a secret of many words": Odd()}]),
        TypeError,
        "cannot encode 'messages.0.content.0.…': JSON has no form for Odd",
    ),
]


@pytest.mark.parametrize(("params", "kind", "said"), CANNOT_BE_SENT)
async def test_params_without_a_form_in_json_were_unexpected_errors(simulator, params, kind, said):
    """They are errors of the caller's, as everywhere in Python; where is said, nothing is quoted."""
    client = simulated_client(simulator)
    async with client, Executor(client=client, clock=loop_time) as executor:
        with pytest.raises(kind) as caught:
            await executor.submit(params)
        assert str(caught.value).startswith(said)
        assert "secret" not in str(caught.value)
        await executor.submit(asking("And now a good one."))
    assert simulator.verdict().requests == 1


def test_an_iterator_was_sent_once_and_as_nothing_the_second_time():
    """The SDK would read it out for the first attempt; a retry would send an empty list."""
    with pytest.raises(
        TypeError, match=r"^cannot encode 'messages\.0\.content': an iterator .*make it a list"
    ):
        check_params(asking(iter(["secret"])))


def test_params_that_hold_themselves_are_no_endless_loop():
    """Neither a loop without end nor a `RecursionError`."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match=r"^cannot encode 'messages': it is nested too deeply"):
        check_params({"messages": loop})


def test_whatever_the_sdk_can_send_is_let_through(tmp_path):
    """Blocks, dates, sets, tuples, files for `data`, and what is no part of the body."""
    block = TextBlock(type="text", text="é")
    source = {"type": "base64", "media_type": "image/png", "data": tmp_path / "image.png"}
    image = {"type": "image", "source": source}
    check_params(
        asking((block, image, {"when": date(2026, 1, 1), "set": {"a"}, "none": None, 1: 2.5, "yes": True}))
    )
    check_params(
        asking("x", timeout=Odd(), extra_headers=Odd(), system=anthropic.NOT_GIVEN, top_k=anthropic.omit)
    )


QUOTES = [
    ("messages.0.content: got 'my secret'", "This is my secret.", "messages.0.content: got '…'"),
    ("messages.0.content: got 'secret'", "secret", "messages.0.content: got '…'"),
    ('input_value="one\\nsecret two"', "one\nsecret two", 'input_value="…"'),
    ("{'role': 'user', 'text': 'Tell my sec...'}", "Tell my secret", "{'role': 'user', 'text': '…'}"),
    ("cannot fetch https://a.example/secret.pdf.", "see https://a.example/secret.pdf", "cannot fetch …."),
]  # fmt: skip


@pytest.mark.parametrize(("said", "prompt", "kept"), QUOTES)
def test_the_apis_words_quoted_the_prompt(said, prompt, kept):
    """What the API's text shares with the request's own texts is left out of it."""
    assert redacted(said, asking(prompt)) == kept
    assert redacted(said, asking([{"type": "text", "text": prompt}])) == kept
    assert redacted(said, asking([TextBlock(type="text", text=prompt)])) == kept


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens: 999999 > 64000, which is the maximum allowed number of output tokens for claude-haiku",
        "model: claude-haiku-5-5 not found",
        "messages.0.role: Input should be 'user' or 'assistant'",
        "messages.0.content.0: Input tag 'txt' found using 'type' does not match the expected tags: 'text'",
        "This request would exceed your organization's rate limit of 50 requests per minute. It isn't yours.",
        "Overloaded",
        "",
    ],
)
def test_useful_words_of_the_api_are_kept(said):
    """The model, limits, parameters and types are no secrets, though the prompt uses such words too."""
    prompt = "You assist the user: what is the limit of a text's rate? It isn't a maximum, is it?"
    assert redacted(said, asking([{"type": "txt", "text": prompt}], system="Be brief.")) == said


def test_a_long_text_shared_without_quotes_is_left_out_wherever_it_is():
    """Also from the system prompt, tools and metadata."""
    secret = "the quick brown fox"
    for where in (
        {"system": secret},
        {"tools": [{"name": "t", "description": secret}]},
        {"metadata": {"user_id": secret}},
    ):
        assert redacted(f"system: I do not like {secret} at all", asking("x", **where)) == (
            "system: I do not like … at all"
        )


async def test_the_request_id_is_in_the_message(simulator):
    """What is reported to support is the request id: it is part of what is printed."""
    client = simulated_client(simulator)
    async with client, Executor(client=client, clock=loop_time) as executor:
        with pytest.raises(Exception, match=r"not found \(HTTP 404, req_\w+\): model: claude-nope") as caught:
            await executor.submit(asking("x") | {"model": "claude-nope"})
    assert caught.value.request_id in str(caught.value)
