"""The transport that carries the SDK's requests to a simulator in the same process."""

import asyncio
import os
import subprocess
import sys

import anthropic
import httpx2
import pytest

from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import SimulatorTransport, loop_time, simulated_client

BODY = {
    "model": "claude-haiku-5-5",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture
async def simulator() -> Simulator:
    """Answers of 100 tokens: one second to the first, ten to the rest."""
    settings = Settings(rates=Rates(), latency=Latency(1, 10), output_tokens=Lengths(100, 0))
    return Simulator(settings, clock=loop_time)


async def test_chunks_arrive_when_they_are_sent(simulator):
    """A stream is not collected first: its parts come at different instants."""
    transport = SimulatorTransport(simulator)
    began = loop_time()
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://s", timeout=60) as http,
        http.stream(
            "POST", "/v1/messages", json=BODY | {"stream": True}, headers={"x-api-key": "k"}
        ) as answer,
    ):
        assert loop_time() - began == 1
        times = [loop_time() - began async for _ in answer.aiter_raw()]
    assert times[0] == 1
    assert times[-1] == pytest.approx(11)
    assert len(set(times)) > 5


async def test_cancelling_a_request_is_seen_by_the_simulator(simulator):
    """A cancelled caller ends its request on the other side at once."""
    async with simulated_client(simulator) as client:
        task = asyncio.create_task(client.messages.create(**BODY))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert simulator.stats()["in_flight"] == 0
        assert simulator.stats()["by_cause"] == {"left": 1}


async def test_closing_a_stream_early_is_seen_by_the_simulator(simulator):
    """Leaving the stream's block hangs up; what was not generated does not count."""
    async with simulated_client(simulator) as client:
        async with client.messages.stream(**BODY) as stream:
            async for _ in stream.text_stream:
                if loop_time() > 1_000 + 5:
                    break
        await asyncio.sleep(0.1)
        stats = simulator.stats()
        assert stats["by_cause"] == {"left": 1}
        assert stats["tokens"]["haiku-5.5"]["output"] < 60


async def test_the_app_is_told_of_a_disconnect():
    """receive() yields the body and then, when the client has gone, http.disconnect."""
    seen = []

    async def app(scope, receive, send):
        seen.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        seen.append((await receive())["type"])

    async with httpx2.AsyncClient(transport=SimulatorTransport(app)) as http:
        async with http.stream("GET", "http://s/") as answer:
            assert await anext(answer.aiter_raw()) == b"part"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert seen == ["http.request", "http.disconnect"]


async def test_resets_reach_the_sdk_as_connection_errors(simulator):
    """Before the answer the SDK wraps them; in the middle of a stream they come as they are."""
    async with simulated_client(simulator) as client:
        simulator.set_faults(reset=1)
        with pytest.raises(anthropic.APIConnectionError) as caught:
            await client.messages.create(**BODY)
        assert isinstance(caught.value.__cause__, httpx2.ReadError)
        simulator.set_faults(Faults(stream_dropped=1))
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            async with client.messages.stream(**BODY) as stream:
                await stream.get_final_message()
        simulator.set_faults(Faults(stream_overloaded=1))
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            async with client.messages.stream(**BODY) as stream:
                await stream.get_final_message()
        assert (overloaded.value.status_code, overloaded.value.type) == (200, "overloaded_error")


async def test_read_timeouts_pass_in_virtual_time(simulator):
    """The client's own timeout strikes, and the simulator sees it leave."""
    simulator.set_faults(slow_first_byte=1, slow_first_byte_seconds=1_000)
    began = loop_time()
    async with simulated_client(simulator, timeout=30) as client:
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.create(**BODY)
    assert loop_time() - began == 30
    assert simulator.stats()["by_cause"] == {"left": 1}


async def test_an_error_of_the_simulator_itself_is_not_hidden():
    """A bug on the other side is raised to the caller as it is."""

    async def app(scope, receive, send):
        raise ZeroDivisionError("a bug")

    async with httpx2.AsyncClient(transport=SimulatorTransport(app)) as http:
        with pytest.raises(ZeroDivisionError):
            await http.get("http://s/")


async def test_closing_the_transport_cuts_what_is_running(simulator):
    """No task of the simulator outlives the client."""
    transport = SimulatorTransport(simulator)
    http = httpx2.AsyncClient(transport=transport, timeout=60)
    task = asyncio.create_task(http.post("http://s/v1/messages", json=BODY, headers={"x-api-key": "k"}))
    await asyncio.sleep(2)
    await transport.aclose()
    with pytest.raises(httpx2.RemoteProtocolError):
        await task
    assert simulator.stats()["in_flight"] == 0


async def test_the_sdk_does_not_retry_behind_ones_back(simulator):
    """The client comes with retries switched off."""
    simulator.set_faults(error_500=1)
    async with simulated_client(simulator) as client:
        with pytest.raises(anthropic.InternalServerError):
            await client.messages.create(**BODY)
    assert simulator.stats()["requests"] == 1


def test_the_fixtures_work_in_a_project_of_their_own(tmp_path):
    """A user's conftest with the plugin and the hook: virtual and real simulators, configured by the mark."""
    (tmp_path / "conftest.py").write_text(
        "from claude_executor.testing import VirtualTimeLoop\n"
        'pytest_plugins = ["claude_executor.testing.fixtures"]\n'
        "def pytest_asyncio_loop_factories(config, item):\n"
        '    return {"virtual": VirtualTimeLoop}\n'
    )
    (tmp_path / "test_mine.py").write_text(
        "import asyncio, urllib.request\n"
        "import pytest\n"
        "from claude_executor.simulator import Rates, Settings\n"
        "from claude_executor.testing import loop_time, simulated_client\n"
        f"BODY = {BODY!r}\n"
        "@pytest.mark.simulator(Settings(rates=Rates(7)))\n"
        "async def test_virtual(simulator):\n"
        "    async with simulated_client(simulator) as client:\n"
        "        answer = await client.messages.with_raw_response.create(**BODY)\n"
        '    assert answer.headers["anthropic-ratelimit-requests-limit"] == "7"\n'
        "    await asyncio.sleep(86_400)\n"
        '    assert simulator.stats()["now"] == loop_time()\n'
        "def test_real(simulator_server):\n"
        '    urllib.request.urlopen(simulator_server.base_url + "/simulator/stats").close()\n'
    )
    options = ["-p", "no:cacheprovider", "-W", "error", "--strict-markers", "-o", "asyncio_mode=auto"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function", "-p", "pytest_asyncio.plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-q", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # none but the one that it needs
    )
    assert "2 passed" in done.stdout, done.stdout
