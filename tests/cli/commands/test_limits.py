"""``claude-executor limits``: whom it asks, what it shows, and the code it ends with."""

import json
import re
import socket

import httpx2
import pytest
import respx

from claude_executor.simulator.world.settings import ADMIN_KEY

MODEL = "claude-haiku-5-5"
LIST = "http://api.example/v1/organizations/rate_limits"
HAIKU = {
    "type": "rate_limit",
    "id": "rl_1",
    "group": {"type": "model_group", "id": "rlg_1", "display_name": "Claude Haiku 5.5"},
    "models": [MODEL],
    "limits": [
        {"type": "requests_per_minute", "value": 1_000},
        {"type": "input_tokens_per_minute_cache_aware", "value": 2_000_000},
        {"type": "tokens_per_day", "value": 9_000_000},
        {"type": "fast_otpm", "value": 70},
        {"type": "brand_new_per_hour", "value": 3},
    ],
}


def group(kind: str, **limits: int) -> dict[str, object]:
    """A group of limits that are no model's."""
    values = [{"type": name, "value": value} for name, value in limits.items()]
    return {
        "type": "rate_limit",
        "id": f"rl_{kind}",
        "group": {"type": kind, "id": f"rlg_{kind}"},
        "models": None,
        "limits": values,
    }


@pytest.fixture
def admin(environment, monkeypatch):
    """The simulator, with nothing but an admin key in the environment."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ADMIN_KEY)
    return environment


@pytest.fixture
def listing(monkeypatch):
    """Serve these answers to the listing, one after another; what was asked is remembered."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://api.example")
    with respx.mock(assert_all_called=False) as api:

        def serve(*answers):
            return api.get(url__startswith=LIST).mock(side_effect=[*answers, *[answers[-1]] * 5])

        yield serve


def found(result) -> dict[tuple[str, str], dict]:
    """The entries printed as JSON, by pool and resource."""
    return {(entry["pool"], entry["resource"]): entry for entry in json.loads(result.stdout)}


def test_an_admin_key_alone_sends_nothing_but_the_listing(admin, invoke):
    """Every pool, each limit with where it is from; no message is asked for."""
    result = invoke("limits", "--json")
    assert result.exit_code == 0
    entries = found(result)
    assert entries["Claude haiku-5.5", "requests"] == {
        "pool": "Claude haiku-5.5",
        "resource": "requests",
        "limit": 1_000,
        "per": "minute",
        "source": "rate limits API",
        "models": [MODEL],
    }
    assert entries["Claude opus-4.x", "output tokens"]["limit"] == 400_000
    assert entries["token counting", "requests"]["limit"] > 0
    assert {entry["source"] for entry in entries.values()} == {"rate limits API"}
    assert admin.verdict().requests == 0


def test_an_admin_key_with_a_model_shows_its_pool_only(admin, invoke):
    """Two models of one pool show it once; still nothing is sent."""
    entries = found(invoke("limits", "-m", "claude-opus-4-7", "-m", "claude-opus-4-8", "--json"))
    assert {pool for pool, _ in entries} == {"Claude opus-4.x"}
    assert admin.verdict().requests == 0


def test_both_keys_and_no_model_send_nothing(environment, invoke, monkeypatch):
    """The list is enough: no request is paid for unasked."""
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ADMIN_KEY)
    assert invoke("limits").exit_code == 0
    assert environment.verdict().requests == 0


def test_both_keys_and_a_model_also_show_what_is_left(environment, invoke, monkeypatch):
    """Where the list and the headers agree there is one line, with both as its source."""
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ADMIN_KEY)
    result = invoke("limits", "-m", MODEL, "--json")
    entries = json.loads(result.stdout)
    assert len(entries) == len(found(result)) == 3
    assert {entry["source"] for entry in entries} == {"rate limits API, response headers"}
    assert all(entry["left"] is not None for entry in entries)
    assert environment.verdict().requests == 1


def test_where_a_workspace_may_use_less_there_are_two_lines(environment, invoke, monkeypatch):
    """The list tells the organisation's limit and the headers the workspace's: both are true."""
    from claude_executor.cli.commands import limits

    async def listed(key, *, base_url, models):
        entry = {"pool": "Claude Haiku 5.5", "per": "minute", "source": "rate limits API", "models": [MODEL]}
        return [entry | {"resource": "requests", "limit": 4_000}, entry | {"resource": "tokens", "limit": 7}]

    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setattr(limits, "organization_limits", listed)
    entries = json.loads(invoke("limits", "-m", MODEL, "--json").stdout)
    lines = [(entry["pool"], entry["resource"], entry["limit"], entry["source"]) for entry in entries]
    assert lines[:3] == [
        ("Claude Haiku 5.5", "requests", 4_000, "rate limits API"),
        ("Claude Haiku 5.5", "requests", 1_000, "response headers"),
        ("Claude Haiku 5.5", "tokens", 7, "rate limits API"),
    ]
    assert {line[0] for line in lines} == {"Claude Haiku 5.5"}


@pytest.mark.parametrize(
    ("declared", "limit", "source"),
    [(500, 500, "declared"), (50_000, 1_000, "response headers"), (1_000, 1_000, "declared")],
)
def test_the_smaller_of_told_and_announced_is_in_force(environment, invoke, declared, limit, source):
    """What the user told holds only where it is less than what the API announces."""
    entry = found(invoke("limits", "--rpm", declared, "--json"))["haiku-5.5", "requests"]
    assert (entry["limit"], entry["source"]) == (limit, source)


@pytest.mark.parametrize(
    ("declared", "limit", "source"), [(500, 500, "declared"), (50_000, 1_000, "rate limits API")]
)
def test_the_smaller_of_told_and_listed_is_in_force(admin, invoke, declared, limit, source):
    """The same of the list; what is told is told of models, not of counting tokens."""
    entries = found(invoke("limits", "--rpm", declared, "--json"))
    entry = entries["Claude haiku-5.5", "requests"]
    assert (entry["limit"], entry["source"]) == (limit, source)
    assert entries["token counting", "requests"]["source"] == "rate limits API"


def test_a_published_tier_is_told_from_what_was_told(environment, invoke):
    """With --tier nothing is sent; a flag beside it is no published number."""
    entries = found(invoke("limits", "--tier", "build", "--rpm", 7, "--json"))
    assert entries["every other", "requests"]["source"] == "declared"
    assert entries["every other", "requests"]["limit"] == 7
    assert entries["every other", "input tokens"]["source"] == "published tier"
    assert environment.verdict().requests == 0


def test_a_published_tier_in_force_for_a_model_is_called_so(environment, invoke):
    """A tier with a model: the published number, if it is the smaller one."""
    entries = found(invoke("limits", "--tier", "start", "-m", MODEL, "--itpm", 9, "--json"))
    assert entries["haiku-5.5", "requests"]["source"] == "published tier"
    assert entries["haiku-5.5", "input tokens"]["source"] == "declared"


def test_groups_that_are_no_pools_are_shown_in_words(listing, invoke):
    """Batches, files, fast mode and whatever is invented next: named, with their span, on every page."""
    batch = group("batch", requests_per_minute=50, enqueued_batch_requests=100_000)
    tools = group("web_search", tool_uses_per_second=30)
    route = listing(
        httpx2.Response(200, json={"data": [HAIKU], "next_page": "page_1"}),
        httpx2.Response(
            200, json={"data": [batch, tools, group("teapots", cups_per_day=4)], "next_page": None}
        ),
    )
    result = invoke("limits", "--json")
    spans = {key: (entry["limit"], entry["per"]) for key, entry in found(result).items()}
    assert spans == {
        ("Claude Haiku 5.5", "requests"): (1_000, "minute"),
        ("Claude Haiku 5.5", "input tokens"): (2_000_000, "minute"),
        ("Claude Haiku 5.5", "tokens"): (9_000_000, "day"),
        ("Claude Haiku 5.5", "output tokens, fast mode"): (70, "minute"),
        ("Claude Haiku 5.5", "brand new"): (3, "hour"),
        ("Message Batches", "requests"): (50, "minute"),
        ("Message Batches", "requests in the queue"): (100_000, None),
        ("web search", "tool uses"): (30, "second"),
        ("teapots", "cups"): (4, "day"),
    }
    assert [call.request.url.params.get("page") for call in route.calls] == [None, "page_1"]


def test_the_table_says_every_span(listing, invoke):
    """What is not a minute's says so; columns of which nothing is known are left out."""
    batch = group("batch", enqueued_batch_requests=100_000)
    listing(httpx2.Response(200, json={"data": [HAIKU, batch], "next_page": None}))
    shown = invoke("limits").stdout
    assert re.search(r"tokens +9,000,000 per day +rate limits", shown)
    assert re.search(r"requests in the queue +100,000 in total +rate limits", shown)
    assert "left" not in shown


def test_the_list_is_read_to_its_end(admin, invoke, monkeypatch):
    """A page at a time gives what all at once gives."""
    from claude_executor.cli.service import rate_limits_api as organization

    whole = invoke("limits", "--json").stdout
    monkeypatch.setattr(organization, "PAGE", 3)
    assert invoke("limits", "--json").stdout == whole


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (httpx2.Response(401, json={"error": {"type": "authentication_error"}}), 3, "rejected the admin key"),
        (httpx2.Response(403, json={"error": {"type": "permission_error"}}), 3, "create an admin key"),
        (httpx2.Response(404, text="<html>"), 3, "no Rate Limits API at that address"),
        (httpx2.Response(200, text="<html>"), 3, "no Rate Limits API at that address"),
        (httpx2.Response(200, json={"data": [{"hello": "world"}]}), 3, "no Rate Limits API at that address"),
        (httpx2.ConnectError("refused"), 3, "check the network and the base URL"),
        (httpx2.Response(500, headers={"x-should-retry": "false"}), 1, "HTTP 500"),
    ],
)
def test_a_list_that_cannot_be_had(listing, invoke, answer, code, said):
    """One line that says what to do, and exit 3 where there is no access."""
    if isinstance(answer, Exception):
        listing(answer, answer)
    else:
        listing(answer)
    result = invoke("limits")
    assert result.exit_code == code
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert ADMIN_KEY not in result.output


def test_an_ordinary_key_used_as_admin_key(environment, invoke, monkeypatch):
    """The simulator refuses it as the API does: exit 3, and the variable is named."""
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", "sk-ant-secret")
    result = invoke("limits")
    assert result.exit_code == 3
    assert "ANTHROPIC_ADMIN_KEY" in result.stderr


def test_an_admin_key_with_a_line_break(environment, invoke, monkeypatch):
    """It is not sent, and not shown."""
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", "sk-ant-secret\n")
    result = invoke("limits")
    assert result.exit_code == 3
    assert "contains a space, a line break" in result.stderr


def test_a_model_the_organisation_has_not(admin, invoke):
    """A model that is not in the list is bad input."""
    result = invoke("limits", "-m", "claude-nope")
    assert result.exit_code == 2
    assert "check the name of the model" in result.stderr


def test_no_network_for_the_list(admin, invoke):
    """A port where nobody listens: exit 3."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    result = invoke("limits", "--base-url", url)
    assert result.exit_code == 3
    assert "cannot connect to the Rate Limits API at" in result.stderr


@pytest.mark.parametrize(
    ("key", "said"), [("sk-ant-\nsecret", "the API key contains a line break"), (None, "no API key found")]
)
def test_a_key_that_cannot_be_sent(environment, invoke, monkeypatch, tmp_path, key, said):
    """Without a request, exit 3 and what is wrong."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    if key is None:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
    else:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    result = invoke("limits")
    assert result.exit_code == 3
    assert f"nothing was sent: {said}" in result.stderr
    assert "secret" not in result.output
    assert environment.verdict().requests == 0
