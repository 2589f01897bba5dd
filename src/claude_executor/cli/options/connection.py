"""Options that several commands share, and what they mean for an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from claude_executor import Executor, Limits
from claude_executor.cli.options.param_types import rate

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from claude_executor import Event, RedisBudget, RetryPolicy, SpendingCap

F = TypeVar("F", bound=Callable[..., Any])

_PER_MINUTE = {
    "rpm": "requests",
    "tpm": "input and output tokens together",
    "itpm": "input tokens",
    "otpm": "output tokens",
}
COUNT_TOKENS = "count_tokens"
"""The entry of a tier that is for what counts tokens; see `Limits.tier`."""
TIERS = ("evaluation", "start", "build", "scale")
DEFAULT_CONCURRENCY = 200


@dataclass(frozen=True, slots=True)
class Sharing:
    """With whom the limits are shared, as told on the command line."""

    url: str
    group: str
    alone: str = "degrade"
    weight: float = 1.0
    max_concurrency: int | None = None

    def budget(self) -> RedisBudget:
        """What keeps the levels.

        Raises:
            click.BadParameter: Not with these.
        """
        from claude_executor import RedisBudget

        try:
            return RedisBudget(
                self.url,
                group=self.group,
                when_unreachable=self.alone,
                weight=self.weight,
                max_concurrency=self.max_concurrency,
            )
        except (ValueError, ImportError) as error:
            raise click.BadParameter(str(error), param_hint="'--shared'") from error


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How to reach the API and what may be used of it, as told on the command line."""

    limits: Limits | Mapping[str, Limits]
    max_concurrency: int = DEFAULT_CONCURRENCY
    base_url: str | None = None
    api_key: str | None = None
    sharing: Sharing | None = None

    def executor(
        self,
        on_event: Callable[[Event], None] | None = None,
        caps: Iterable[SpendingCap] = (),
        *,
        client: AsyncAnthropic | None = None,
        max_queued: int | None = None,
        retry: RetryPolicy | None = None,
    ) -> Executor:
        """An executor for it."""
        return Executor(
            self.limits,
            client=client,
            max_queued=max_queued,
            retry=retry,
            max_concurrency=self.max_concurrency,
            base_url=self.base_url,
            api_key=self.api_key,
            budget=None if self.sharing is None else self.sharing.budget(),
            spending_caps=caps,
            on_event=on_event,
        )


_OPTIONS = [
    *(
        click.option(
            f"--{name}",
            type=rate,
            metavar="N",
            envvar=f"CLAUDE_EXECUTOR_{name.upper()}",
            help=f"At most so many {what} a minute.",
        )
        for name, what in _PER_MINUTE.items()
    ),
    click.option(
        "--burst",
        type=rate,
        metavar="SECONDS",
        envvar="CLAUDE_EXECUTOR_BURST",
        help="How many seconds' worth of a limit may be used at once.",
    ),
    click.option(
        "--tier",
        type=click.Choice(TIERS, case_sensitive=False),
        envvar="CLAUDE_EXECUTOR_TIER",
        help="Start from the published limits of a usage tier.",
    ),
    click.option(
        "--max-concurrency",
        type=click.IntRange(1),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        metavar="N",
        envvar="CLAUDE_EXECUTOR_MAX_CONCURRENCY",
        help="At most so many requests in flight.",
    ),
    click.option(
        "--base-url",
        envvar="ANTHROPIC_BASE_URL",
        metavar="URL",
        help="Where the API is.  [env var: ANTHROPIC_BASE_URL]",
    ),
    click.option(
        "--shared",
        metavar="URL",
        envvar="CLAUDE_EXECUTOR_SHARED",
        help="Share the limits with all that name the same Redis and group, such as redis://host:6379.",
    ),
    click.option(
        "--group",
        metavar="NAME",
        default="default",
        show_default=True,
        envvar="CLAUDE_EXECUTOR_GROUP",
        help="Who shares: one group for each organisation.",
    ),
    click.option(
        "--weight",
        type=rate,
        default="1",
        show_default=True,
        metavar="N",
        help="Share of the limits, relative to the others'.",
    ),
    click.option(
        "--group-concurrency",
        type=click.IntRange(1),
        metavar="N",
        envvar="CLAUDE_EXECUTOR_GROUP_CONCURRENCY",
        help="At most so many requests in flight for each pool of models, of all who share together.",
    ),
    click.option(
        "--alone",
        type=click.Choice(["degrade", "hold", "fail"]),
        default="degrade",
        show_default=True,
        help="While Redis is away: go on with a share of the limits, wait, or refuse.",
    ),
]


def connection_options(command: F) -> F:
    """Add the options that `connection` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def connection(
    *,
    tier: str | None,
    burst: float | None,
    max_concurrency: int,
    base_url: str | None,
    shared: str | None = None,
    group: str = "default",
    weight: float = 1.0,
    alone: str = "degrade",
    group_concurrency: int | None = None,
    **per_minute: float | None,
) -> ConnectionOptions:
    """What the options mean together.

    Raises:
        click.BadParameter: Not what they say.
    """
    if base_url is not None and not _is_address(base_url):
        raise click.BadParameter(
            f"{base_url!r} is no address like https://api.anthropic.com", param_hint="'--base-url'"
        )
    given = {name: value for name, value in per_minute.items() if value is not None}
    if burst is not None:
        given["burst"] = burst
    limits: Limits | Mapping[str, Limits]
    try:
        limits = Limits(**given)
        if tier is not None:
            limits = {
                # What counts tokens has a limit of its own, of which nothing was said.
                pool: its if pool == COUNT_TOKENS else replace(its, **given)
                for pool, its in Limits.tier(tier).items()
            }
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    sharing = None
    if shared is not None:
        sharing = Sharing(shared, group, alone, weight, group_concurrency)
        sharing.budget()  # wrong words are told at once
    return ConnectionOptions(limits, max_concurrency, base_url, sharing=sharing)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
