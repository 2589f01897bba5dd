"""Every way an attempt can go wrong, as the API says it over HTTP, and what `submit` makes of it.

The exchanges are mocked with respx, so that statuses and bodies are exactly those documented.
"""

import asyncio
import ssl
from typing import Any

import aiohttp
import anthropic
import httpx2
import pytest
import respx

from claude_executor import DeadlineExceeded, Executor, Failed, FailureKind, Rejected, RetryPolicy, Stopped
from claude_executor.sdk.failures import failure_from
from claude_executor.sdk.redaction import redacted
from claude_executor.simulator import Faults, Settings, Simulator
from claude_executor.testing import loop_time

URL = "https://api.anthropic.com/v1/messages"
PROMPT = {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}
ANSWER = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 8, "output_tokens": 3},
}  # fmt: skip
ATTEMPTS = 3


def error(type_: str, message: str = "", code: str | None = None) -> dict[str, Any]:
    details = {"error_code": code} if code else None
    return {
        "type": "error",
        "error": {"type": type_, "message": message, "details": details},
        "request_id": "req_1",
    }


async def ask(*responses: httpx2.Response | Exception) -> Any:
    """Submit one request to an API that answers as given, the last answer for ever. The outcome, and how often."""
    client = anthropic.AsyncAnthropic(
        api_key="k", base_url="https://api.anthropic.com", http_client=anthropic.DefaultAsyncHttpxClient()
    )
    with respx.mock(assert_all_called=False) as api:
        endless = [*responses, *[responses[-1]] * 20]
        route = api.post(URL).mock(side_effect=endless)
        policy = RetryPolicy(max_attempts=ATTEMPTS)
        async with (
            client,
            Executor(client=client, clock=loop_time, retry=policy, random=lambda: 0.5) as executor,
        ):
            try:
                outcome: Any = await executor.submit(PROMPT, deadline=5_000.0)
            except (Failed, Stopped) as error:
                outcome = error
        return outcome, route.call_count


R = httpx2.Response
ONCE = [
    ("bad request", R(400, json=error("invalid_request_error", "max_tokens: too large")), FailureKind.INVALID),
    (
        "self-set spend limit",
        R(400, json=error("invalid_request_error", "You have reached your specified API usage limits. You will …")),
        FailureKind.SPEND_LIMIT,
    ),
    (
        "workspace spend limit",
        R(400, json=error("invalid_request_error", "You have reached your specified workspace API usage limits.")),
        FailureKind.SPEND_LIMIT,
    ),
    ("no credit", R(400, json=error("invalid_request_error", "Your credit balance is too low to …")), FailureKind.BILLING),
    ("bad key", R(401, json=error("authentication_error", "invalid x-api-key")), FailureKind.AUTHENTICATION),
    ("billing", R(402, json=error("billing_error", "…")), FailureKind.BILLING),
    ("linked organisation", R(402, json=error("billing_error", "…", "linked_organization_spend_limit_reached")), FailureKind.BILLING),
    ("permission", R(403, json=error("permission_error", "…")), FailureKind.PERMISSION),
    ("no such model", R(404, json=error("not_found_error", "model: x")), FailureKind.NOT_FOUND),
    ("precondition", R(412, json=error("invalid_request_error", "…")), FailureKind.INVALID),
    ("too large, JSON", R(413, json=error("request_too_large", "…")), FailureKind.TOO_LARGE),
    ("too large, proxy page", R(413, text="<html>413</html>"), FailureKind.TOO_LARGE),
    ("unprocessable", R(422, json=error("invalid_request_error", "…")), FailureKind.INVALID),
    ("header fields", R(431, json=error("invalid_request_error", "…")), FailureKind.INVALID),
    ("client closed", R(499, json=error("invalid_request_error", "…")), FailureKind.INVALID),
    ("tier spend cap", R(429, json=error("rate_limit_error", "…", "enforced_spend_limit_reached")), FailureKind.SPEND_LIMIT),
    (
        "tier spend cap, though told to retry",
        R(429, json=error("rate_limit_error", "…", "enforced_spend_limit_reached"), headers={"x-should-retry": "true"}),
        FailureKind.SPEND_LIMIT,
    ),
    ("contract spend cap", R(429, json=error("rate_limit_error", "…", "contract_spend_limit_reached")), FailureKind.SPEND_LIMIT),
    ("not implemented", R(501, json=error("api_error", "…")), FailureKind.NOT_IMPLEMENTED),
    ("told not to retry", R(500, json=error("api_error", "…"), headers={"x-should-retry": "false"}), FailureKind.SERVER),
]  # fmt: skip


@pytest.mark.parametrize(("response", "kind"), [row[1:] for row in ONCE], ids=[row[0] for row in ONCE])
async def test_sent_once_and_no_more(response, kind):
    """What trying again cannot mend is sent once."""
    outcome, times = await ask(response)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.attempts, times) == (kind, 1, 1)
    assert isinstance(outcome.__cause__, anthropic.APIStatusError)


BOUNDED = [
    ("request timeout", R(408, json=error("api_error", "…")), FailureKind.TIMEOUT),
    ("conflict", R(409, json=error("conflict_error", "…")), FailureKind.CONFLICT),
    ("server error", R(500, json=error("api_error", "Internal server error")), FailureKind.SERVER),
    ("bad gateway", R(502, json=error("api_error", "…")), FailureKind.SERVER),
    ("bad gateway, proxy page", R(502, text="<html>Bad gateway</html>"), FailureKind.SERVER),
    ("unavailable", R(503, json=error("api_error", "…", "cmek_key_unreachable")), FailureKind.SERVER),
    ("gateway timeout", R(504, json=error("timeout_error", "…")), FailureKind.TIMEOUT),
    (
        "broken JSON",
        R(200, text='{"id": "msg_', headers={"content-type": "application/json"}),
        FailureKind.GARBLED,
    ),
    ("not a message", R(200, json={"hello": "world"}), FailureKind.GARBLED),
    ("no stop reason", R(200, json=ANSWER | {"stop_reason": None}), FailureKind.GARBLED),
    ("a page", R(200, text="<html>Hello</html>"), FailureKind.GARBLED),
    ("read timeout", httpx2.ReadTimeout("…"), FailureKind.TIMEOUT),
]


@pytest.mark.parametrize(("response", "kind"), [row[1:] for row in BOUNDED], ids=[row[0] for row in BOUNDED])
async def test_tried_again_as_often_as_the_policy_says(response, kind):
    """What may pass is tried again, and given up after `max_attempts`."""
    outcome, times = await ask(response)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.attempts, times) == (kind, ATTEMPTS, ATTEMPTS)


@pytest.mark.parametrize(("response", "kind"), [row[1:] for row in BOUNDED], ids=[row[0] for row in BOUNDED])
async def test_recovers(response, kind):
    """The same failures, once, followed by an answer."""
    outcome, times = await ask(response, R(200, json=ANSWER))
    assert outcome.content[0].text == "Hi"
    assert times == 2


WAITED_OUT = [
    ("rate limit", R(429, json=error("rate_limit_error", "…"), headers={"retry-after": "7"}), 7.0),
    ("rate limit without a hint", R(429, json=error("rate_limit_error", "…")), 2.0),
    ("rate limit in other words", R(429, text="Too many."), 2.0),
    ("long rate limit", R(429, json=error("rate_limit_error", "…"), headers={"retry-after": "171"}), 171.0),
    ("ramp", R(429, json=error("rate_limit_error", "…", "ramp_limit_exceeded"), headers={"retry-after": "30"}), 30.0),
    ("unknown code", R(429, json=error("rate_limit_error", "…", "brand_new"), headers={"retry-after": "3"}), 3.0),
    ("overloaded", R(529, json=error("overloaded_error", "Overloaded")), 0.0),
    ("overloaded with a hint", R(529, json=error("overloaded_error", "…"), headers={"retry-after": "20"}), 20.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("response", "least"), [row[1:] for row in WAITED_OUT], ids=[row[0] for row in WAITED_OUT]
)
async def test_waited_out_without_counting_and_never_sooner_than_told(response, least):
    """Five times in a row, more than `max_attempts`, and still answered: being told to wait is no failed attempt."""
    began = loop_time()
    outcome, times = await ask(*[response] * 5, R(200, json=ANSWER))
    assert outcome.content[0].text == "Hi"
    assert times == 6
    assert loop_time() - began >= 5 * least


async def test_overload_for_longer_than_any_number_of_attempts():
    """Ten 529s in a row do not fail a request: the breaker pauses it until the API answers."""
    outcome, times = await ask(
        *[R(529, json=error("overloaded_error", "Overloaded"))] * 10, R(200, json=ANSWER)
    )
    assert outcome.content[0].text == "Hi"
    assert times == 11


async def test_a_dropped_connection_is_tried_again_at_once():
    """The first dropped connection is most likely a stale one: no wait."""
    began = loop_time()
    _, times = await ask(httpx2.ReadError("reset"), R(200, json=ANSWER))
    assert times == 2
    assert loop_time() == began


async def test_an_unreachable_api_is_given_up_soon_and_says_what_to_do():
    """A host that never answered is a wrong address: few attempts, and an error that names the setting."""
    outcome, times = await ask(httpx2.ConnectError("refused"))
    assert outcome.kind is FailureKind.UNREACHABLE
    assert times == 3
    assert "ANTHROPIC_BASE_URL" in str(outcome)


def connector(error: OSError, kind: Any = aiohttp.ClientConnectorError) -> Any:
    """An error of aiohttp as the SDK raises it: below its own, and with the cause as an attribute."""
    key = aiohttp.client_reqrep.ConnectionKey("127.0.0.1", 1, True, True, None, None, None)
    raised = anthropic.APIConnectionError(
        request=httpx2.Request("POST", "https://u:secret@127.0.0.1:18080/v1/x")
    )
    raised.__cause__ = kind(key, error)
    return raised


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (connector(ConnectionRefusedError(111, "no")), "connection refused"),
        (connector(ssl.SSLError(1, "wrong version")), "the TLS handshake failed (is it http://?)"),
        (connector(ssl.SSLCertVerificationError(1, "self-signed")), "its TLS certificate cannot be verified"),
        (connector(OSError(-2, "?"), aiohttp.ClientConnectorDNSError), "the host name cannot be resolved"),
    ],
)
def test_without_a_connection_the_message_names_host_and_cause(error, said):
    """And not the password that may stand in the base URL."""
    failure = failure_from(error).failure
    assert failure.kind is FailureKind.UNREACHABLE
    assert failure.detail == f"cannot connect to https://127.0.0.1:18080: {said}"


async def test_a_failed_request_said_failed_twice():
    """As in a traceback: "Failed: failed: invalid request"."""
    outcome, _ = await ask(R(400, json=error("invalid_request_error", "no")))
    assert isinstance(outcome, Failed)
    assert str(outcome).startswith("invalid request (HTTP 400")
    outcome, _ = await ask(R(500, json=error("api_error", "no")))
    assert str(outcome).startswith("gave up after 3 attempts: server error (HTTP 500")


async def test_without_a_connection_it_was_told_as_if_something_had_been_sent():
    """No attempt reached the API, so the error is one of those that say so; its cause is the SDK's."""
    outcome, _ = await ask(httpx2.ConnectError("refused"))
    assert isinstance(outcome, Stopped)
    assert isinstance(outcome, Rejected)
    assert str(outcome).startswith("nothing was sent in 3 attempts: ")
    assert isinstance(outcome.__cause__, anthropic.APIConnectionError)


@pytest.mark.parametrize("first", [httpx2.ReadError("reset"), R(529, json=error("overloaded_error"))])
async def test_what_was_sent_once_was_sent_though_the_last_attempts_were_not(first):
    """One attempt got through before the connection was lost: it may have been answered, and charged."""
    outcome, _ = await ask(first, *[httpx2.ConnectError("refused")] * 90)
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.UNREACHABLE


async def test_a_deadline_without_a_connection_is_a_deadline():
    """Nothing was sent, and the time is up: `DeadlineExceeded`, and what stood in the way."""
    client = anthropic.AsyncAnthropic(api_key="k", http_client=anthropic.DefaultAsyncHttpxClient())
    with respx.mock() as api:
        api.post(URL).mock(side_effect=httpx2.ConnectError("refused"))
        async with client, Executor(client=client, clock=loop_time, random=lambda: 0.5) as executor:
            with pytest.raises(DeadlineExceeded, match=r"cannot connect to https://api\.anthropic\.com"):
                await executor.submit(PROMPT, deadline=0.2)


async def test_an_unforeseen_exception_settles_the_attempt():
    """Whatever the client raises comes back as `Failed`, with its cause, and nothing stays taken."""
    outcome, times = await ask(ZeroDivisionError("surprise"))
    assert outcome.kind is FailureKind.UNEXPECTED
    assert times == 1


async def test_a_deadline_that_passes_in_an_outage_names_the_outage(executor_on):
    """Also for a request that was never sent, because the circuit breaker held it back."""
    simulator = Simulator(Settings(), faults=Faults(outage=600.0), clock=loop_time)
    async with executor_on(simulator) as executor:
        first = asyncio.create_task(executor.submit(PROMPT, deadline=60.0))
        await asyncio.sleep(30.0)
        others = [executor.submit(PROMPT, deadline=0.5) for _ in range(5)]
        told = await asyncio.gather(*others, return_exceptions=True)
        assert all("overloaded" in str(error) for error in told)
        assert sum(isinstance(error, DeadlineExceeded) for error in told) >= 3
        with pytest.raises(Failed, match="overloaded"):
            await first


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError])
def test_any_error_with_two_words_in_it_was_a_missing_key(error):
    """Only the SDK's own complaint is one: it would stop every request."""
    assert failure_from(error("no authentication method 'md5'"), {}).failure.kind is FailureKind.UNEXPECTED
    assert (
        failure_from(TypeError("no authentication method 'md5'"), {}).failure.kind is FailureKind.UNEXPECTED
    )
    own = TypeError('"Could not resolve authentication method. Expected one of …"')
    assert failure_from(own, {}).failure.kind is FailureKind.AUTHENTICATION


def asking(text: str) -> dict[str, Any]:
    return {**PROMPT, "messages": [{"role": "user", "content": text}]}


def test_a_long_prompt_held_up_everything_while_its_error_was_read():
    """The comparing is bounded, whatever the lengths; what could not be compared is not shown."""
    long = asking("lorem ipsum dolor " * 600_000)
    usual = "prompt is too long: 2500000 tokens > 200000 maximum"
    assert redacted(usual, long) == usual
    assert len(redacted("nobody ever wrote such words. " * 140, long)) < 100
    assert len(redacted("got 'nobody', 'ever', 'wrote', 'such', 'words'; " * 80, long)) < 300
    assert "lorem" not in redacted("nobody ever wrote such words. " * 20 + "'lorem'", long)
    assert "dolor" not in redacted("dolor ipsum lorem " * 200, asking("dolor ipsum lorem " * 100))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("messages.0.content: got 'Smith'", "messages.0.content: got '…'"),
        ("messages.0.content: got 'Smi", "messages.0.content: got '…'"),
        ("messages.0.content: got 'Smith of\\nElm", "messages.0.content: got '…'"),
        ("messages.0.role: got 'of', not 'user'", "messages.0.role: got '…', not 'user'"),
        ("model: 'claude-haiku-5-5' is not 'opus'", "model: 'claude-haiku-5-5' is not 'opus'"),
    ],
)
def test_a_single_word_of_the_prompt_was_quoted(said, shown):
    """Also where the quotation is cut short; the words of the protocol and the model's name stay."""
    text = "The user Smith of Elm Street asks."
    assert redacted(said, asking(text)) == shown
