"""``claude-executor serve``: how it starts, what it says, how it stops. The sockets and signals are real."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import httpx2
import pytest

from claude_executor import Limits
from claude_executor.cli.service.gateway_server import _line
from claude_executor.core.scheduling.scheduler import Scheduler
from claude_executor.simulator import Latency, Lengths, Rates, Settings, running

SLOW = Settings(rates=Rates(), latency=Latency(2.0), output_tokens=Lengths(20))
ENDLESS = Settings(rates=Rates(), latency=Latency(15.0))
MESSAGE = {
    "model": "claude-haiku-5-5",
    "max_tokens": 30,
    "messages": [{"role": "user", "content": "The secret prompt"}],
}


@pytest.fixture
def free_port():
    """A port on which nobody listens, and below those from which connections are made.

    Who asks again and again for a server on one of those would one day be connected to himself.
    """
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


@pytest.fixture
def serve(invoke, free_port):
    """Serve in this process, and meanwhile do something in a thread, with the gateway's address."""

    def run(meanwhile, *words):
        address, failed, over = f"http://127.0.0.1:{free_port}", [], threading.Event()

        def in_a_thread():
            try:
                until(lambda: over.is_set() or healthy(address))
                meanwhile(address)
            except BaseException as error:
                failed.append(error)
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=in_a_thread)
        thread.start()
        result = invoke("serve", "--port", free_port, *words)
        over.set()
        thread.join()
        assert not failed, (failed, result.stderr)
        assert result.stdout == f"{address}\n"
        return result

    return run


def until(ready):
    deadline = time.monotonic() + 60.0
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def healthy(address):
    try:
        return httpx2.get(f"{address}/claude-executor/health").status_code == 200
    except httpx2.TransportError:
        return False


def status(address):
    return httpx2.get(f"{address}/claude-executor/status").json()


def ask(address, text="Hello"):
    message = {**MESSAGE, "messages": [{"role": "user", "content": text}]}
    return httpx2.post(f"{address}/v1/messages", json=message, timeout=60.0)


def test_its_options_are_told(invoke):
    """The help names the defaults and where keys come from."""
    told = invoke("serve", "--help")
    assert told.exit_code == 0
    for word in ("127.0.0.1", "8484", "--client-key", "--open", "--max-queued", "--rpm", "--shared"):
        assert word in told.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "spend your money"),
        (["--host", "::"], "spend your money"),
        (["--host", "gateway.example"], "spend your money"),
        (["--client-key", ""], "an empty key"),
        (["--client-key", "name:"], "empty key"),
        (["--port", "65536"], "--port"),
        (["--base-url", "nowhere"], "isn't a URL"),
        (["--rpm", "0"], "--rpm"),
    ],
)
def test_it_refuses_what_would_be_a_mistake(environment, invoke, words, said):
    """To be open to all by default, for one; before anything is sent."""
    result = invoke("serve", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert environment.stats()["requests"] == 0


def test_a_port_that_is_taken_is_named(environment, invoke):
    """And what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = invoke("serve", "--port", port)
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_that_can_be_sent_it_does_not_begin(environment, invoke, monkeypatch, key):
    """It says which variable to set."""
    if key is None:
        monkeypatch.delenv("ANTHROPIC_API_KEY")
    else:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    result = invoke("serve", "--port", 0)
    assert result.exit_code == 3
    assert "ANTHROPIC_API_KEY" in result.stderr
    assert result.stdout == ""


def test_a_key_that_the_api_refuses_is_found_out_at_the_start(invoke, monkeypatch):
    """Not by the first client."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    with running(Settings(keys=frozenset({"another"}))) as server:
        result = invoke("serve", "--port", 0, "--base-url", server.base_url)
    assert result.exit_code == 3
    assert "rejected the API key (HTTP 401)" in result.stderr
    assert result.stdout == ""


def test_it_serves_although_the_api_cannot_be_reached_yet(serve, monkeypatch):
    """It warns; its clients' requests wait for the API."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = listener.getsockname()[1]

    def meanwhile(address):
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, address)
            until(lambda: status(address)["attempts"] > 0)
            with running(port=api):
                assert answer.result().status_code == 200
        os.kill(os.getpid(), signal.SIGTERM)

    result = serve(meanwhile, "--base-url", f"http://127.0.0.1:{api}")
    assert result.exit_code == 0
    assert "Warning" in result.stderr
    assert "cannot connect to" in result.stderr


def test_clients_with_a_key_are_served_and_measured(environment, serve):
    """From the API's answer to the metrics; nothing that is said holds a prompt or a key."""

    def meanwhile(address):
        assert ask(address).status_code == 401
        answer = httpx2.post(f"{address}/v1/messages", json=MESSAGE, headers={"x-api-key": "team-key"})
        assert answer.status_code == 200
        metrics = httpx2.get(f"{address}/claude-executor/metrics", headers={"x-api-key": "team-key"})
        assert "claude_executor" in metrics.text
        os.kill(os.getpid(), signal.SIGINT)

    result = serve(meanwhile, "--client-key", "team-a:team-key", "--host", "127.0.0.1")
    assert result.exit_code == 0
    assert environment.stats()["by_status"]["200"] == 1
    assert "team-key" not in result.output
    assert "secret prompt" not in result.output


def test_ctrl_c_finishes_what_is_in_flight(launch, free_port):
    """What waits is turned away to come again; the process says so and ends well."""
    with running(SLOW) as server, ThreadPoolExecutor(8) as pool:
        words = ["--max-concurrency", 1, "--port", free_port]
        process = launch("serve", *words, ANTHROPIC_BASE_URL=server.base_url)
        address = process.stdout.readline().strip()
        assert address == f"http://127.0.0.1:{free_port}"
        answers = [pool.submit(ask, address, f"{number}") for number in range(4)]
        until(lambda: (status(address)["running"], status(address)["queued"]) == (1, 3))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        answers = [answer.result() for answer in answers]
        assert server.stats()["by_status"]["200"] == 1
    assert process.returncode == 0, stderr
    assert stdout == ""
    assert "finishing 1 request, refusing 3 in the queue; press Ctrl-C again" in stderr
    assert "Traceback" not in stderr
    assert sorted(answer.status_code for answer in answers) == [200, 503, 503, 503]
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["x-should-retry"] == "true"
            assert answer.json()["error"]["type"] == "api_error"


def test_a_second_ctrl_c_waited_for_what_is_in_flight(serve, monkeypatch):
    """It ends at once, and nothing is answered any more."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    with running(ENDLESS) as server, ThreadPoolExecutor() as pool:
        asked = []

        def meanwhile(address):
            asked.append(pool.submit(ask, address))
            until(lambda: status(address)["running"] == 1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            assert not asked[0].done()
            os.kill(os.getpid(), signal.SIGINT)

        result = serve(meanwhile, "--base-url", server.base_url)
        assert server.stats()["by_status"].get("200", 0) == 0
        assert asked[0].exception() is not None or asked[0].result().status_code >= 500
    assert result.exit_code == 1  # of click's runner; on the command line it is 130
    assert "press Ctrl-C again to stop at once" in result.stderr


def test_the_line_of_every_ten_seconds_tells_what_holds_it_up():
    """Counts of what is new and of what there is; nothing of requests themselves."""
    now = 1_000.0
    scheduler = Scheduler(Limits(rpm=60, burst=1.0), max_concurrency=5, now=now)
    before = scheduler.snapshot(now)
    assert _line(before, before) == "0 answered (0 a minute) | 0 in flight | 0 waiting"
    later = replace(before, answered=2_050, running=3, queued=4, waiting_to_retry=1, retries=7, failed=2)
    told = _line(later, replace(before, answered=2_000))
    assert told == "2,050 answered (300 a minute) | 3 in flight | 5 waiting | 7 retries | 2 failed"
