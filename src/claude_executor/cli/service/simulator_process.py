"""A simulator in a process of its own, so that client and server do not share an event loop.

The child exits when its standard input closes, which happens when the parent ends, however it ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from types import TracebackType

_GRACE = 3.0
_TIMEOUT = 10.0


class SimulatorProcess:
    """A simulator in another process. Use it as a context manager.

    Attributes:
        base_url: Address of the simulator, once entered.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - JSON
        """Start nothing yet. Of the `settings`, `rates`, `latency` and `output_tokens` are mappings."""
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""

    def __enter__(self) -> Self:
        """Start the simulator, and wait until it listens.

        Raises:
            OSError: The simulator did not start.
        """
        self._process = process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "claude_executor.cli.service.simulator_process",
                json.dumps(self._settings),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent; the simulator still serves requests in flight
        )
        assert process.stdout is not None
        self.base_url = process.stdout.readline().strip()
        if not self.base_url:
            self._end()
            raise OSError("the simulator did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the simulator."""
        self._end()

    def fail(self, **faults: Any) -> None:  # noqa: ANN401 - JSON
        """Change the faults from now on. The names are those of `Faults`."""
        self._ask("faults", json.dumps(faults).encode())

    def verdict(self) -> dict[str, Any]:
        """Return the simulator's verdict on its client so far."""
        return self._ask("verdict")

    def _ask(self, what: str, body: bytes | None = None) -> dict[str, Any]:
        request = Request(f"{self.base_url}/simulator/{what}", body)
        with urlopen(request, timeout=_TIMEOUT) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def serve(settings: dict[str, Any]) -> None:
    """Serve until standard input closes."""
    from claude_executor.simulator import Latency, Lengths, Rates, Settings, running

    settings["rates"] = Rates(**settings["rates"])
    settings["latency"] = Latency(**settings["latency"])
    settings["output_tokens"] = Lengths(**settings["output_tokens"])
    with running(Settings(**settings)) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
