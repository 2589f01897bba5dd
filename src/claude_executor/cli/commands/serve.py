"""``claude-executor serve``: the gateway, from the command line."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import click

from claude_executor.cli.live.interruptible import import_sdk
from claude_executor.cli.options.connection import connection, connection_options
from claude_executor.cli.terminal.exits import CommandError, reason

PORT = 8484
BACKLOG = 4_096


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    envvar="CLAUDE_EXECUTOR_PORT",
    help="Port; 0 takes any that is free.",
)
@click.option(
    "--client-key",
    "client_keys",
    multiple=True,
    metavar="[NAME:]KEY",
    envvar="CLAUDE_EXECUTOR_CLIENT_KEYS",
    help="What clients must send as their API key; the name is their tenant's. May be repeated.  "
    "[env var: CLAUDE_EXECUTOR_CLIENT_KEYS]",
)
@click.option("--open", "is_open", is_flag=True, help="Without a client key, listen to other machines too.")
@click.option(
    "--max-queued",
    type=click.IntRange(0),
    metavar="N",
    help="Turn requests away while so many are waiting.  [default: no bound]",
)
@connection_options
def serve(
    host: str,
    port: int,
    client_keys: tuple[str, ...],
    is_open: bool,
    max_queued: int | None,
    **options: Any,  # noqa: ANN401
) -> None:
    """Serve a gateway: any language's SDK points its base URL at it, and is paced, retried and protected.

    Prints its address on one line when it listens, and serves until it is interrupted. The API key is the
    gateway's own (ANTHROPIC_API_KEY); clients need none, or one that --client-key names.
    """
    known = dict(map(_known, client_keys))
    if not known and not is_open and not _is_this_machine(host):
        raise click.UsageError(
            f"whoever can reach {host} could spend your money: ask for a key with --client-key, "
            "or allow it with --open"
        )
    how = connection(**options)
    import_sdk()
    from claude_executor.cli.service.gateway_server import serve_until_stopped
    from claude_executor.gateway import Access

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {reason(error)}; name another with --port"
        ) from error
    with listener:
        asyncio.run(
            serve_until_stopped(how, listener, access=Access(known, any_host=is_open), max_queued=max_queued)
        )


def _known(word: str) -> tuple[str, str]:
    """A key, and whose it is."""
    before, colon, after = word.partition(":")
    name, key = (before, after) if colon else ("", word)
    if not key.strip():
        raise click.BadParameter("an empty key keeps nobody out", param_hint="'--client-key'")
    return key.strip(), name


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
