"""Runs the gateway as a service: opens it, reports on it, and stops it on a signal."""

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
"""Seconds. Longer than the minute of most load balancers, which should be the ones to close connections."""


async def serve_until_stopped(
    how: ConnectionOptions, listener: socket.socket, *, access: Access, max_queued: int | None
) -> None:
    """Serve until a signal; then finish the requests in flight, unless a second signal comes.

    Raises:
        CommandError: The API rejects the key, or the base URL is the gateway itself.
    """
    stderr = console()

    def report(line: str) -> None:
        stderr.print(line, markup=False, soft_wrap=True)

    address = _address_of(listener)
    prometheus, metrics = _metrics()
    http_client = http_client_for(max_concurrency=how.max_concurrency)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(http_client.aclose)
        client = _client(how.base_url, http_client)
        base_url = str(client.base_url)
        if _leads_to(base_url, listener):
            raise CommandError(
                f"{address} is the gateway's own address (ANTHROPIC_BASE_URL is for its clients); "
                "set the address of the API with --base-url https://api.anthropic.com"
            )
        reached = await _check(client)
        executor = how.executor(
            prometheus, client=client, max_queued=max_queued, retry=RetryPolicy(fail_fast=False)
        )
        await stack.enter_async_context(executor)
        if prometheus is not None:
            prometheus.watch(executor.snapshot)
        gateway = Gateway(executor, client, http_client, access=access, metrics=metrics)
        report(f"Gateway to {client.base_url} listening on {address}")
        report(f"To use it with any SDK, set ANTHROPIC_BASE_URL={address}")
        if reached is not None:
            report(f"Warning: {reached}")
        click.echo(address)
        with _lines(executor, report):
            await _serve(gateway, executor, listener, report)


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
    gateway: Gateway, executor: Executor, listener: socket.socket, report: Callable[[str], None]
) -> None:
    """Serve until a signal comes.

    Raises:
        click.Abort: A second signal came before all requests had finished.
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
        if underway or waiting:
            first = f"stopping: finishing {count(underway, 'request')}"
            refused = f", refusing {waiting:,} in the queue" if waiting else ""
            report(f"{first}{refused}; press Ctrl-C again to stop at once")
        else:
            report("stopped: nothing in flight")
        server.should_exit = gateway.stopping = True
        draining = loop.create_task(executor.drain(refuse_waiting=True))

    try:
        with obeyed(stop):
            await server.serve(sockets=[listener])
    finally:
        if draining is not None:
            draining.cancel()
    if server.force_exit:
        raise click.Abort  # an exception, so that the executor does not wait for abandoned requests


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals alone: uvicorn would end the process as if it had been killed."""

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
        """Capture none."""
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
    """The collector and the renderer of metrics, if Prometheus' client is installed."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ModuleNotFoundError:
        return None, None
    registry = CollectorRegistry()
    return to_prometheus(registry), lambda: generate_latest(registry)


@contextmanager
def _lines(executor: Executor, report: Callable[[str], None]) -> Generator[None]:
    """Report a line every ten seconds, unless nothing has happened."""
    before = executor.snapshot()

    def look() -> None:
        nonlocal before
        now = executor.snapshot()
        if now.attempts != before.attempts or now.queued or now.running:
            report(_line(now, before))
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
    parts += [f"limited by {' and '.join(held)}"] if held else []
    parts += [count(now.retries, "retry", "retries")] if now.retries else []
    parts += [f"{now.failed:,} failed"] if now.failed else []
    return " | ".join(parts)
