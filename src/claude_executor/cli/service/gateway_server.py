"""The gateway as a service: opened, told about, stopped."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import anthropic
import click
import httpx2
import uvicorn

from claude_executor import RetryPolicy
from claude_executor.cli.live.display import LINE_EVERY, every
from claude_executor.cli.terminal.console import console
from claude_executor.cli.terminal.exits import NO_ACCESS, CommandError
from claude_executor.cli.terminal.format import amount, count
from claude_executor.cli.terminal.signals import obeyed
from claude_executor.gateway import Access, Gateway, http_client_for
from claude_executor.observe import to_prometheus

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

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
        if _leads_to(client.base_url, listener):
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


def _client(base_url: str | None, http_client: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
    try:
        return anthropic.AsyncAnthropic(base_url=base_url, http_client=http_client, max_retries=0)
    except anthropic.AnthropicError as error:
        raise CommandError(f"there is no API key: {error}", NO_ACCESS) from error


def _leads_to(url: httpx2.URL, listener: socket.socket) -> bool:
    host, port = listener.getsockname()[:2]
    here = {host, "localhost", "127.0.0.1", "::1"}
    return url.scheme == "http" and (url.port or 80) == port and url.host in here


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
        server.should_exit = gateway.stopping = True
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


async def _check(client: anthropic.AsyncAnthropic) -> str | None:
    """See whether the API takes the key, which costs nothing; why that cannot be known, if it cannot.

    Raises:
        Trouble: It does not, or there is none.
    """
    try:
        await client.models.list(limit=1, timeout=10.0)
    except (anthropic.AuthenticationError, anthropic.PermissionDeniedError) as error:
        raise CommandError(
            f"{client.base_url} does not take the API key ({error.status_code}); check ANTHROPIC_API_KEY",
            NO_ACCESS,
        ) from error
    except anthropic.APIConnectionError as error:
        if isinstance(error.__cause__, (httpx2.LocalProtocolError, ValueError)):
            raise CommandError("the API key cannot be sent: it holds what no key has", NO_ACCESS) from error
        return f"{client.base_url} cannot be reached now; requests will wait for it"
    except anthropic.APIStatusError:
        return None  # it is there, and may have no list of models
    except (TypeError, ValueError, anthropic.AnthropicError) as error:
        raise CommandError(
            "there is no API key that could be sent: set ANTHROPIC_API_KEY", NO_ACCESS
        ) from error
    return None


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
