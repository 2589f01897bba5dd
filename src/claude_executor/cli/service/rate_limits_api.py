"""An organization's limits, as its Rate Limits API lists them. Needs an admin key, and uses up no limit."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, cast

from claude_executor.cli.terminal.exits import BAD_INPUT, NO_ACCESS, SOME_FAILED, CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from anthropic import AsyncAnthropic

    from claude_executor.gateway import ApiError

Entry = dict[str, object]
_Json = dict[str, Any]

KEY = "ANTHROPIC_ADMIN_KEY"
SOURCE = "rate limits API"
PAGE = 1_000
"""Groups a page: the most that the API allows."""

_PATH = "/v1/organizations/rate_limits"
_GROUPS = {
    "batch": "Message Batches",
    "token_count": "token counting",
    "files": "Files API",
    "skills": "Skills API",
    "web_search": "web search",
}
"""Groups other than groups of models. An executor does not use them."""
_PER = re.compile(r"(?P<what>.+)_per_(?P<span>second|minute|hour|day)")
_RESOURCES = {
    "input_tokens_cache_aware": "input tokens",
    "input_tokens": "input tokens, cache reads too",
    "fast_itpmca": "input tokens, fast mode",
    "fast_otpm": "output tokens, fast mode",
    "enqueued_batch_requests": "requests in the queue",
}
_PER_MINUTE = frozenset({"fast_itpmca", "fast_otpm"})
_NOT_THERE = "no Rate Limits API at that address; check the base URL (ANTHROPIC_BASE_URL)"


def admin_key() -> str | None:
    """Return the admin key from the environment, or None if it is not set.

    Raises:
        CommandError: It cannot be a key.
    """
    key = os.environ.get(KEY)
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise CommandError(
            f"the admin key ({KEY}) contains a space, a line break or another invalid character; "
            "copy it again from console.anthropic.com",
            NO_ACCESS,
        )
    return key or None


async def organization_limits(key: str, *, base_url: str | None, models: Iterable[str] = ()) -> list[Entry]:
    """List the organization's limits: those of every group, or of the groups that `models` belong to.

    Raises:
        CommandError: The API does not list them.
    """
    from claude_executor.gateway import ApiError, connect

    found: dict[str, list[Entry]] = {}
    async with connect(api_key=key, base_url=base_url, max_retries=1) as client:
        for model in tuple(models) or (None,):
            try:
                async for group in _groups(client, model):
                    found[group["id"]] = list(_entries(group))
            except ApiError as error:
                raise _refused(error, model, str(client.base_url)) from error
            except (AttributeError, KeyError, TypeError) as error:  # JSON, but of something else
                raise CommandError(_NOT_THERE, NO_ACCESS) from error
    return [entry for entries in found.values() for entry in entries]


async def _groups(client: AsyncAnthropic, model: str | None) -> AsyncIterator[_Json]:
    from claude_executor.gateway import fetch

    params: dict[str, object] = {"limit": PAGE, **({"model": model} if model is not None else {})}
    while True:
        page = cast("_Json", await fetch(client, _PATH, params))
        for group in page["data"]:
            yield group
        if not page.get("next_page"):
            return
        params["page"] = page["next_page"]


def _refused(error: ApiError, model: str | None, base_url: str) -> CommandError:
    status = error.status
    if status is None:
        return CommandError(
            f"cannot connect to the Rate Limits API at {base_url}: {error}; "
            "check the network and the base URL (ANTHROPIC_BASE_URL)",
            NO_ACCESS,
        )
    if status == 401:
        return CommandError(
            f"the API rejected the admin key (HTTP 401); check {KEY}: it begins with sk-ant-admin", NO_ACCESS
        )
    if status == 403:
        return CommandError(
            f"the key in {KEY} may not read the organization's limits (HTTP 403); "
            "create an admin key at console.anthropic.com",
            NO_ACCESS,
        )
    if status == 404 and model is not None:
        return CommandError(
            f"the organization has no model {model!r}; check the name of the model", BAD_INPUT
        )
    if status in {200, 404}:
        return CommandError(_NOT_THERE, NO_ACCESS)
    return CommandError(f"the Rate Limits API failed (HTTP {status}); try again later", SOME_FAILED)


def _entries(group: _Json) -> Iterator[Entry]:
    kind: str = group["group"]["type"]
    pool = group["group"].get("display_name") or _GROUPS.get(kind) or kind.replace("_", " ")
    for limit in group["limits"]:
        resource, per = _read(limit["type"])
        yield {
            "pool": pool,
            "resource": resource,
            "limit": limit["value"],
            "per": per,
            "source": SOURCE,
            "models": group.get("models") or [],
        }


def _read(limiter: str) -> tuple[str, str | None]:
    """Split a limiter into the resource and the span; the span is None if it is not a rate."""
    found = _PER.fullmatch(limiter.replace("_per_minute_cache_aware", "_cache_aware_per_minute"))
    what, span = (found["what"], found["span"]) if found is not None else (limiter, None)
    if limiter in _PER_MINUTE:
        span = "minute"
    return _RESOURCES.get(what, what.replace("_", " ")), span
