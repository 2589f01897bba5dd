"""Real Redis servers on ports of the loopback: one, or a primary with a replica and a Sentinel."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


class RedisServer:
    """A Redis that keeps nothing."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Serve when this returns."""
        usual = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.run("redis-server", *usual, *options)

    def run(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(self._answers, f"{command[0]} on port {self.port} to answer")

    def ask(self, *command: str) -> str:
        """What it answers, in the protocol's own form."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            connection.sendall((" ".join(command) + "\r\n").encode())
            return connection.recv(65536).decode()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except OSError:
            return False


class GuardedRedis:
    """A primary, its replica, and a Sentinel that promotes the replica when the primary has gone."""

    def __init__(self, down_after: float = 2.0) -> None:
        """`down_after`: seconds of silence after which the Sentinel takes the primary to be dead."""
        self.primary, self.replica, self._sentinel = RedisServer(), RedisServer(), RedisServer()
        self.url = f"redis+sentinel://127.0.0.1:{self._sentinel.port}/primary"
        self._down_after = down_after
        self._folder = tempfile.mkdtemp()

    def start(self) -> None:
        own = ("--dir", self._folder)  # where a copy is put while it is made
        self.primary.start(*own, "--repl-diskless-sync-delay", "0")  # no other replica is waited for
        self.replica.start("--replicaof", "127.0.0.1", str(self.primary.port), *own)
        wait_for(
            lambda: "master_link_status:up" in self.replica.ask("INFO replication"), "the replica's copy"
        )
        told = Path(self._folder, "sentinel.conf")
        told.write_text(
            f"port {self._sentinel.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor primary 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds primary {int(1000 * self._down_after)}\n"
            "sentinel failover-timeout primary 10000\n"
        )
        self._sentinel.run("redis-server", str(told), "--sentinel")
        wait_for(lambda: "num-slaves\r\n$1\r\n1" in self._asked("MASTER"), "the Sentinel to see the replica")

    def kill_primary(self) -> None:
        self.primary.kill()

    @property
    def promoted(self) -> bool:
        """Whether the replica is the primary now."""
        return "role:master" in self.replica.ask("INFO replication")

    def kill(self) -> None:
        for server in (self._sentinel, self.primary, self.replica):
            server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _asked(self, what: str) -> str:
        return self._sentinel.ask("SENTINEL", what, "primary")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(there: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not there():
        if time.monotonic() > until:
            raise RuntimeError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.05)
