"""An organisation's limits as its Rate Limits API tells them: for an admin key, and using nothing up."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from claude_executor.cli.terminal.exits import BAD_INPUT, NO_ACCESS, SOME_FAILED, CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types.organization import OrganizationRateLimit

Entry = dict[str, object]

KEY = "ANTHROPIC_ADMIN_KEY"
SOURCE = "rate limits API"
PAGE = 1_000
"""Groups asked for at a time: the most that the API gives."""

_GROUPS = {
    "batch": "Message Batches",
    "token_count": "token counting",
    "files": "Files API",
    "skills": "Skills API",
    "web_search": "web search",
}
"""What is not a group of models; it has no part in what an executor does."""
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
    """The admin key of the environment, if there is one.

    Raises:
        Trouble: It cannot be one.
    """
    key = os.environ.get(KEY)
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise CommandError(
            f"the admin key ({KEY}) holds a space, a line break or another odd character", NO_ACCESS
        )
    return key or None


async def organization_limits(key: str, *, base_url: str | None, models: Iterable[str] = ()) -> list[Entry]:
    """What the organisation may use: of every group, or of those that `models` are in.

    Raises:
        Trouble: The API does not tell.
    """
    import anthropic

    client = anthropic.AsyncAnthropic(api_key=key, base_url=base_url, max_retries=1)
    found: dict[str, list[Entry]] = {}
    async with client:
        for model in tuple(models) or (None,):
            try:
                async for group in _groups(client, model):
                    found[group.id] = list(_entries(group))
            except anthropic.APIStatusError as error:
                raise _refused(error, model) from error
            except anthropic.APIConnectionError as error:
                raise CommandError(
                    "no connection to the Rate Limits API; check the network and the base URL "
                    "(ANTHROPIC_BASE_URL)",
                    NO_ACCESS,
                ) from error
            except (anthropic.APIError, AttributeError, TypeError) as error:  # the SDK does not validate
                raise CommandError(_NOT_THERE, NO_ACCESS) from error
    return [entry for entries in found.values() for entry in entries]


async def _groups(client: AsyncAnthropic, model: str | None) -> AsyncIterator[OrganizationRateLimit]:
    async for group in client.organization.rate_limits.list(limit=PAGE, model=model):
        yield group


def _refused(error: APIStatusError, model: str | None) -> CommandError:
    status = error.status_code
    if status == 401:
        said = f"the admin key was not accepted; check {KEY}: it begins with sk-ant-admin"
        return CommandError(f"{said} (HTTP 401)", NO_ACCESS)
    if status == 403:
        said = f"an organisation's limits are told to admin keys only, and {KEY} is none that may"
        return CommandError(f"{said}; an admin makes one in the Claude Console (HTTP 403)", NO_ACCESS)
    if status == 404 and model is not None:
        return CommandError(
            f"{model}: the organisation has no such model; check the name of the model", BAD_INPUT
        )
    if status == 404:
        return CommandError(f"{_NOT_THERE} (HTTP 404)", NO_ACCESS)
    return CommandError(
        f"the Rate Limits API does not answer as it should (HTTP {status}); try again", SOME_FAILED
    )


def _entries(group: OrganizationRateLimit) -> Iterator[Entry]:
    kind = group.group.type
    pool = getattr(group.group, "display_name", None) or _GROUPS.get(kind) or kind.replace("_", " ")
    for limit in group.limits:
        resource, per = _read(limit.type)
        yield {
            "pool": pool,
            "resource": resource,
            "limit": limit.value,
            "per": per,
            "source": SOURCE,
            "models": group.models or [],
        }


def _read(limiter: str) -> tuple[str, str | None]:
    """What a limiter limits, and in what span; `None` where it is no rate."""
    found = _PER.fullmatch(limiter.replace("_per_minute_cache_aware", "_cache_aware_per_minute"))
    what, span = (found["what"], found["span"]) if found is not None else (limiter, None)
    if limiter in _PER_MINUTE:
        span = "minute"
    return _RESOURCES.get(what, what.replace("_", " ")), span
