"""The simulator on real sockets: few tests, to know that the virtual world is true."""

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from json import dumps, loads
from urllib.parse import urlsplit

import anthropic
import httpx2
import pytest
from click.testing import CliRunner

from claude_executor.simulator import Faults, Lengths, Rates, Settings, running
from claude_executor.simulator.server.command import simulate

BODY = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
KEY = {"x-api-key": "k"}


@pytest.fixture(scope="module")
def server():
    """One server for all of these tests; each begins by resetting it."""
    with running(Settings(rates=Rates(), output_tokens=Lengths(40, 0))) as found:
        yield found


@pytest.fixture
def http(server):
    """A plain client of the server, with nothing left of the last test."""
    server.reset()
    with httpx2.Client(base_url=server.base_url, headers=KEY) as client:
        yield client


def test_the_synchronous_sdk_over_a_real_socket(server, http):
    """A message and a stream, and the numbers read from another thread."""
    with anthropic.Anthropic(api_key="k", base_url=server.base_url, max_retries=0) as client:
        assert client.messages.create(**BODY).usage.output_tokens == 40
        with client.messages.stream(**(BODY | {"max_tokens": 49})) as stream:
            assert stream.get_final_message().stop_reason == "end_turn"
    assert server.stats()["by_status"] == {"200": 2}
    assert server.verdict().clean


def test_a_reset_is_a_real_one(server, http):
    """The peer resets the connection before any answer, and again when an idle one is used."""
    server.set_faults(reset=1)
    with pytest.raises(httpx2.ReadError):
        http.post("/v1/messages", json=BODY)
    server.set_faults(reset=0, stale_keepalive=1)
    assert http.post("/v1/messages", json=BODY).status_code == 200
    with pytest.raises(httpx2.ReadError):
        http.post("/v1/messages", json=BODY)
    assert http.post("/v1/messages", json=BODY).status_code == 200


def test_nobody_listens_looks_like_a_reset(server, http):
    """The kernel has accepted the connection before anyone could refuse it."""
    server.set_faults(unreachable=True)
    with pytest.raises(httpx2.ReadError):
        http.post("/v1/messages", json=BODY)
    server.set_faults(unreachable=0)
    assert http.post("/v1/messages", json=BODY).status_code == 200


def test_head_and_body_of_an_answer_come_together(server, http):
    """One packet: what is written in one turn of the server's loop leaves it at once."""
    parts = urlsplit(server.base_url)
    body = dumps(BODY).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: s\r\nx-api-key: k\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head.encode() + body)
        first = connection.recv(65_536)
    assert first.startswith(b"HTTP/1.1 200")
    assert first.endswith(b"}")


def test_a_client_that_hangs_up_is_noticed(server, http):
    """Giving up closes the connection, and the simulator stops working for it."""
    server.set_faults(slow_first_byte=1, slow_first_byte_seconds=600)
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/v1/messages", json=BODY, timeout=httpx2.Timeout(5, read=0.05))
    while server.stats()["in_flight"]:
        pass
    assert server.stats()["by_cause"] == {"left": 1}


def test_a_dropped_stream_breaks_in_the_middle(server, http):
    """The body ends early: by a reset or without its last chunk."""
    server.set_faults(stream_dropped=1)
    for _ in range(6):
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            http.post("/v1/messages", json=BODY | {"stream": True})
    server.set_faults(Faults(stream_cut=1))
    assert "message_stop" not in http.post("/v1/messages", json=BODY | {"stream": True}).text


def test_a_body_that_is_too_large(server, http):
    """413 even though the body was never read."""
    response = http.post("/v1/messages", content=b"x" * (33 * 1024 * 1024))
    assert response.status_code == 413


def test_the_command_prints_its_url_and_stops_when_told():
    """One line on stdout, requests served, exit code 0 after SIGTERM."""
    command = [sys.executable, "-m", "claude_executor.simulator", "--rpm", "1", "--latency", "0"]
    command += ["--fault", "error_500=0", "--profile", "strict", "--speed", "inf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        statuses = [httpx2.post(f"{url}/v1/messages", json=BODY, headers=KEY).status_code for _ in range(2)]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == 0
        assert process.stdout.read() == ""
    assert statuses == [200, 429]


@pytest.mark.parametrize("fault", ["nonsense", "no_such_fault=1", "error_500=2", "error_500=x"])
def test_a_wrong_fault_is_a_usage_error(fault):
    """Exit code 2, and what was wrong."""
    result = CliRunner().invoke(simulate, ["--fault", fault])
    assert result.exit_code == 2
    assert "--fault" in result.output


def test_faults_whose_names_nobody_says():
    """The help and the error for an unknown one name them all, and the values shown are taken."""
    names = {field.name for field in fields(Faults)}
    told = CliRunner().invoke(simulate, ["--help"]).output
    refused = CliRunner().invoke(simulate, ["--fault", "no_such_fault=1"]).output
    for output in (told, refused):
        assert names <= set(re.findall(r"\w+", output))
    shown = re.findall(r"(\w+)=('.*?'|[\w.]+)", " ".join(told.split()))
    examples = {name: loads(value.strip("'")) for name, value in shown if name in names}
    assert len(examples) == 8
    Faults().changed(examples)


def test_asking_for_help_does_not_wait_for_a_server():
    """Neither starlette nor uvicorn nor the SDK is imported until something is served."""
    code = (
        "import sys; import claude_executor.simulator.server.command; "
        "print([name for name in ('starlette', 'uvicorn', 'anthropic', 'httpx2') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
