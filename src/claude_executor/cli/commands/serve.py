"""``claude-executor serve``: the gateway, from the command line."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import click

from claude_executor.cli.live.interruptible import import_sdk
from claude_executor.cli.options.connection import connection, connection_options
from claude_executor.cli.options.param_types import whole
from claude_executor.cli.terminal.exits import CommandError, reason

PORT = 8484
BACKLOG = 4_096


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=whole(0, 65_535),
    metavar="PORT",
    default=PORT,
    show_default=True,
    envvar="CLAUDE_EXECUTOR_PORT",
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--client-key",
    "client_keys",
    multiple=True,
    metavar="[NAME:]KEY",
    envvar="CLAUDE_EXECUTOR_CLIENT_KEYS",
    help="Key that clients must send as their API key; NAME becomes their tenant. Repeatable.  "
    "[env var: CLAUDE_EXECUTOR_CLIENT_KEYS]",
)
@click.option("--open", "is_open", is_flag=True, help="Accept other machines without a client key.")
@click.option(
    "--max-queued",
    type=whole(0),
    metavar="N",
    help="Refuse requests while this many are waiting.  [default: no limit]",
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
    """Start a gateway that paces and retries requests of any SDK.

    Set the base URL of any language's SDK to the gateway's address, which is printed on stdout. The gateway
    runs until you interrupt it. It sends its own API key (ANTHROPIC_API_KEY); clients need none, or one given
    with --client-key.
    """
    known = dict(map(_known, client_keys))
    if not known and not is_open and not _is_this_machine(host):
        raise click.UsageError(
            f"anyone who can reach {host} could spend your money: require a key with --client-key, "
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
            f"cannot listen on {host}:{port}: {reason(error)}; choose another port with --port"
        ) from error
    with listener:
        asyncio.run(
            serve_until_stopped(how, listener, access=Access(known, any_host=is_open), max_queued=max_queued)
        )


def _known(word: str) -> tuple[str, str]:
    """Split a word into a key and the name of its tenant."""
    before, colon, after = word.partition(":")
    name, key = (before, after) if colon else ("", word)
    if not key.strip():
        raise click.BadParameter("an empty key protects nothing", param_hint="'--client-key'")
    return key.strip(), name


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
