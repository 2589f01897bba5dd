"""A real Redis for tests, and one in memory whose time is the test's."""

import socket
import subprocess
import time

import fakeredis

from claude_executor import RedisBudget


class RealRedis:
    """A `redis-server` on the loopback that keeps nothing."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process = None

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not answer")

    def kill(self):
        """Die at once, and forget everything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Clock:
    """What a Redis in memory takes for the time."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self):
        return self.now


class MemoryBudget(RedisBudget):
    """A budget in a Redis in memory; `away` is what a cut network is."""

    def __init__(self, server, **options):
        super().__init__("redis://nowhere", **{"group": "team", **options})
        self._server = server
        self.away = False

    def _connected(self):
        if self.away:
            raise ConnectionError("cut off")
        if self._client is None:
            super()._connected()
            self._client = fakeredis.FakeAsyncRedis(server=self._server)
        return self._client
