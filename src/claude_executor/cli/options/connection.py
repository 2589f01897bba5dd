"""Options that several commands share: limits, address of the API, sharing. And the executor they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from claude_executor import Executor, Limits
from claude_executor.cli.options.param_types import rate, whole
from claude_executor.cli.options.param_types import tier as tier_name

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from claude_executor import Event, RedisBudget, RetryPolicy, SpendingCap

F = TypeVar("F", bound=Callable[..., Any])

RESOURCES = {"rpm": "requests", "tpm": "tokens", "itpm": "input tokens", "otpm": "output tokens"}
"""The resource that each field of `Limits`, and the option of the same name, limits per minute."""
COUNT_TOKENS = "count_tokens"
"""The entry of a tier for token counting; see `Limits.tier`."""
DEFAULT_CONCURRENCY: int = signature(Executor).parameters["max_concurrency"].default


@dataclass(frozen=True, slots=True)
class Sharing:
    """Options for sharing the limits with other processes, as given on the command line.

    Attributes:
        url: Address of the Redis server.
        group: Name of the processes that share.
        when_unreachable: What to do while Redis cannot be reached; see `RedisBudget`.
        weight: Share of the limits, relative to that of other members.
        max_concurrency: Requests in flight per pool, for the whole group.
    """

    url: str
    group: str
    when_unreachable: str = "degrade"
    weight: float = 1.0
    max_concurrency: int | None = None

    def budget(self) -> RedisBudget:
        """Build the shared budget. Nothing is connected yet.

        Raises:
            click.BadParameter: The address is invalid, or the extra is not installed.
        """
        from claude_executor import RedisBudget

        try:
            return RedisBudget(
                self.url,
                group=self.group,
                when_unreachable=self.when_unreachable,
                weight=self.weight,
                max_concurrency=self.max_concurrency,
            )
        except (ValueError, ImportError) as error:
            raise click.BadParameter(str(error), param_hint="'--shared'") from error


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Options for reaching the API and for its limits, as given on the command line."""

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
        """Build the executor that these options describe. `caps` are its spending caps."""
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
            help=f"Maximum {what}{' (input + output)' if name == 'tpm' else ''} per minute.",
        )
        for name, what in RESOURCES.items()
    ),
    click.option(
        "--burst",
        type=rate,
        metavar="SECONDS",
        envvar="CLAUDE_EXECUTOR_BURST",
        help="Burst size, in seconds of the limit.",
    ),
    click.option(
        "--tier",
        type=tier_name,
        metavar="TIER",
        envvar="CLAUDE_EXECUTOR_TIER",
        help="Start with the published limits of a usage tier: evaluation, start, build or scale.",
    ),
    click.option(
        "--max-concurrency",
        type=whole(1),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        metavar="N",
        envvar="CLAUDE_EXECUTOR_MAX_CONCURRENCY",
        help="Maximum requests in flight.",
    ),
    click.option(
        "--base-url",
        envvar="ANTHROPIC_BASE_URL",
        metavar="URL",
        help="Address of the API.  [env var: ANTHROPIC_BASE_URL]",
    ),
    click.option(
        "--shared",
        metavar="URL",
        envvar="CLAUDE_EXECUTOR_SHARED",
        help="Share limits through this Redis, such as redis://host:6379.",
    ),
    click.option(
        "--group",
        metavar="NAME",
        default="default",
        show_default=True,
        envvar="CLAUDE_EXECUTOR_GROUP",
        help="With --shared: name of the group that shares. Use one per organization.",
    ),
    click.option(
        "--weight",
        type=rate,
        default="1",
        show_default=True,
        metavar="N",
        help="With --shared: share of the limits, relative to other members.",
    ),
    click.option(
        "--group-concurrency",
        type=whole(1),
        metavar="N",
        envvar="CLAUDE_EXECUTOR_GROUP_CONCURRENCY",
        help="With --shared: maximum requests in flight per pool of models, for the whole group.",
    ),
    click.option(
        "--when-unreachable",
        type=click.Choice(["degrade", "hold", "fail"]),
        default="degrade",
        show_default=True,
        help="With --shared, while Redis is down: continue with a share of the limits, wait, or fail.",
    ),
]


def connection_options(command: F) -> F:
    """Add the options that `connection` reads to a command."""
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
    when_unreachable: str = "degrade",
    group_concurrency: int | None = None,
    **per_minute: float | None,
) -> ConnectionOptions:
    """Combine the values of the options.

    Raises:
        click.BadParameter: A value is invalid.
    """
    if base_url is not None and not _is_url(base_url):
        raise click.BadParameter(
            f"{base_url!r} isn't a URL (example: https://api.anthropic.com)", param_hint="'--base-url'"
        )
    given = {name: value for name, value in per_minute.items() if value is not None}
    if burst is not None:
        given["burst"] = burst
    limits: Limits | Mapping[str, Limits]
    try:
        limits = Limits(**given)
        if tier is not None:
            limits = {
                # Token counting has a limit of its own, which no option sets.
                pool: its if pool == COUNT_TOKENS else replace(its, **given)
                for pool, its in Limits.tier(tier).items()
            }
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    sharing = None
    if shared is not None:
        sharing = Sharing(shared, group, when_unreachable, weight, group_concurrency)
        sharing.budget()  # an invalid address is reported at once
    return ConnectionOptions(limits, max_concurrency, base_url, sharing=sharing)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
