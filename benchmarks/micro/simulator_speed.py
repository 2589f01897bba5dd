"""Requests a second that the simulator serves on one core: ``python benchmarks/micro/simulator_speed.py``.

The simulator runs in a process of its own, without limits and latency; a light client in this one sends
prompts of about one kilobyte over kept-alive connections. What is divided by is the server's own CPU time, so
a slow client does not count against it; requests per second of the wall clock are printed beside it.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit


def request(number: int, host: str) -> bytes:
    words = f"request {number}: the quick measurement of a small server goes on and on; "
    body = (
        b'{"model":"claude-haiku-5-5","max_tokens":256,"messages":[{"role":"user","content":"'
        + (words * 20)[:1_000].encode()
        + b'"}]}'
    )
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nx-api-key: k\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection that sends its next request when the last is answered."""

    def __init__(self, host: str, numbers: list[int], done: asyncio.Future[None]) -> None:
        self.host, self.numbers, self.done = host, numbers, done
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send()

    def send(self) -> None:
        if self.numbers:
            self.transport.write(request(self.numbers.pop(), self.host))
        else:
            self.transport.close()
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        if len(body) >= int(lengths[0].split(b":")[1]):
            assert head.startswith(b"HTTP/1.1 200"), head
            self.buffer = b""
            self.send()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(url: str, requests: int, connections: int, pid: int) -> None:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    numbers = list(range(requests))
    done = [loop.create_future() for _ in range(connections)]
    cpu, began = cpu_seconds(pid), time.perf_counter()
    for future in done:
        await loop.create_connection(
            lambda future=future: Client(parts.netloc, numbers, future),  # type: ignore[misc]
            str(parts.hostname),
            int(parts.port or 0),
        )
    await asyncio.gather(*done)
    wall, used = time.perf_counter() - began, cpu_seconds(pid) - cpu
    print(f"{requests} requests over {connections} connections")
    print(f"  {requests / wall:7.0f} a second of wall clock (client on the other core)")
    print(f"  {requests / used:7.0f} a second of the server's CPU time, {used / requests * 1e6:.0f} µs each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    command = [sys.executable, "-m", "claude_executor.simulator", "--rpm", "0", "--itpm", "0", "--otpm", "0"]
    command += ["--latency", "0", "--speed", "inf", "--spread", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            asyncio.run(measure(url, options.requests, options.connections, server.pid))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
