"""The gateway as a service: opened, told about, stopped."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import uvicorn

from claude_executor import RetryPolicy
from claude_executor.cli.live.display import LINE_EVERY, every
from claude_executor.cli.terminal.console import console
from claude_executor.cli.terminal.exits import NO_ACCESS, CommandError
from claude_executor.cli.terminal.format import amount, count
from claude_executor.cli.terminal.signals import obeyed
from claude_executor.gateway import Access, ApiError, Gateway, connect, fetch, http_client_for
from claude_executor.observe import to_prometheus

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    from anthropic import AsyncAnthropic
    from httpx2 import AsyncClient

    from claude_executor import Executor, Snapshot
    from claude_executor.cli.options.connection import ConnectionOptions
    from claude_executor.observe.prometheus import Prometheus

_KEEP_ALIVE = 75
"""Seconds. More than the minute for which load balancers keep a connection: they are to close it, not we."""


async def serve_until_stopped(
    how: ConnectionOptions, listener: socket.socket, *, access: Access, max_queued: int | None
) -> None:
    """Serve until a signal says to stop; then finish what is in flight, unless a second one comes.

    Raises:
        Trouble: The API does not take the key.
    """
    told = console()
    address = _address_of(listener)
    prometheus, metrics = _metrics()
    http_client = http_client_for(max_concurrency=how.max_concurrency)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(http_client.aclose)
        client = _client(how.base_url, http_client)
        base_url = str(client.base_url)
        if _leads_to(base_url, listener):
            raise CommandError(
                f"{address} is the gateway's own address: ANTHROPIC_BASE_URL is for its clients; "
                "say --base-url https://api.anthropic.com"
            )
        reached = await _check(client)
        executor = how.executor(
            prometheus, client=client, max_queued=max_queued, retry=RetryPolicy(fail_fast=False)
        )
        await stack.enter_async_context(executor)
        if prometheus is not None:
            prometheus.watch(executor.snapshot)
        gateway = Gateway(executor, client, http_client, access=access, metrics=metrics)
        told.print(f"claude-executor serves {client.base_url} at {address}", markup=False, soft_wrap=True)
        told.print(f"point any SDK at it: ANTHROPIC_BASE_URL={address}", markup=False, soft_wrap=True)
        if reached is not None:
            told.print(f"Warning: {reached}", markup=False, soft_wrap=True)
        click.echo(address)
        with _lines(executor, lambda line: told.print(line, markup=False, soft_wrap=True)):
            await _serve(gateway, executor, listener, told.print)


def _client(base_url: str | None, http_client: AsyncClient) -> AsyncAnthropic:
    try:
        return connect(base_url=base_url, http_client=http_client)
    except ApiError as error:
        raise CommandError(f"No API key found ({error}). Set ANTHROPIC_API_KEY.", NO_ACCESS) from error


def _leads_to(base_url: str, listener: socket.socket) -> bool:
    url = urlsplit(base_url)
    host, port = listener.getsockname()[:2]
    here = {host, "localhost", "127.0.0.1", "::1"}
    return url.scheme == "http" and (url.port or 80) == port and url.hostname in here


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve(
    gateway: Gateway, executor: Executor, listener: socket.socket, tell: Callable[[str], None]
) -> None:
    """Until a signal comes.

    Raises:
        click.Abort: Another one came before all was finished.
    """
    loop, server = asyncio.get_running_loop(), _Server(gateway)
    draining: asyncio.Task[None] | None = None

    def stop(_number: int) -> None:
        nonlocal draining
        if server.should_exit:
            server.force_exit = True
            return
        now = executor.snapshot()
        waiting = now.queued + now.waiting_to_retry
        underway = max(0, len(server.server_state.tasks) - waiting)
        turned_away = f", {count(waiting, 'waiting one', 'waiting ones')} turned away" if waiting else ""
        tell(f"stopping: {count(underway, 'request')} to finish{turned_away}; once more to stop at once")
        server.should_exit = gateway.leaving = True
        draining = loop.create_task(executor.drain(refuse_waiting=True))

    try:
        with obeyed(stop):
            await server.serve(sockets=[listener])
    finally:
        if draining is not None:
            draining.cancel()
    if server.force_exit:
        raise click.Abort  # as an exception, so that the executor does not wait for what is abandoned


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own would have the process end as if it had been killed."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            uvicorn.Config(
                gateway,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Of none."""
        yield


async def _check(client: AsyncAnthropic) -> str | None:
    """Check the key with a request that is free. Return a warning if the API does not answer now.

    Raises:
        CommandError: The API rejects the key, or there is no key that can be sent.
    """
    try:
        await fetch(client, "/v1/models", {"limit": 1})
    except ApiError as error:
        if error.key_unusable:
            raise CommandError(
                f"{error}. Set ANTHROPIC_API_KEY to a key from console.anthropic.com.", NO_ACCESS
            ) from error
        if error.status in {401, 403}:
            raise CommandError(
                f"{client.base_url} rejected the API key (HTTP {error.status}). Check ANTHROPIC_API_KEY.",
                NO_ACCESS,
            ) from error
        if error.status is None:
            return f"cannot connect to {client.base_url} now ({error}); requests wait until it answers"
    return None  # another status: the API is there, and may have no list of models


def _metrics() -> tuple[Prometheus | None, Callable[[], bytes] | None]:
    """What collects metrics, and what writes them down, if Prometheus' client is installed."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ModuleNotFoundError:
        return None, None
    registry = CollectorRegistry()
    return to_prometheus(registry), lambda: generate_latest(registry)


@contextmanager
def _lines(executor: Executor, tell: Callable[[str], None]) -> Generator[None]:
    """A line every ten seconds in which something happens."""
    before = executor.snapshot()

    def look() -> None:
        nonlocal before
        now = executor.snapshot()
        if now.attempts != before.attempts or now.queued or now.running:
            tell(_line(now, before))
        before = now

    with every(LINE_EVERY, look):
        yield


def _line(now: Snapshot, before: Snapshot) -> str:
    rate = (now.answered - before.answered) * 60.0 / LINE_EVERY
    parts = [
        f"{now.answered:,} answered ({amount(rate)} a minute)",
        f"{now.running:,} in flight",
        f"{now.queued + now.waiting_to_retry:,} waiting",
    ]
    held = sorted({pool.held_by for pool in now.pools.values() if pool.held_by is not None})
    parts += [f"held up by {' and '.join(held)}"] if held else []
    parts += [count(now.retries, "retry", "retries")] if now.retries else []
    parts += [f"{now.failed:,} failed"] if now.failed else []
    return " | ".join(parts)
