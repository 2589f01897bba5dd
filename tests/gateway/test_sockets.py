"""The gateway over real sockets: with the official SDK for Node.js, and with uploads."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from claude_executor import Executor
from claude_executor.gateway import Gateway, http_client_for
from claude_executor.simulator import Latency, Lengths, Rates, Settings, running

NODE = Path(__file__).with_name("node")
# Thirty at once are more than a second's worth.
SETTINGS = Settings(
    rates=Rates(1_200, 2_000_000, 400_000), burst=1.0, latency=Latency(0.02), output_tokens=Lengths(20)
)


@pytest.fixture
def node() -> str:
    """Where there is no Node.js or no SDK, the test is skipped, but not where CI_NODE says so."""
    found = shutil.which("node")
    why = None
    if found is None:
        why = "no node on the path (Debian: apt-get install nodejs npm)"
    elif not (NODE / "node_modules").exists():
        why = f"the SDK for Node.js is not installed (cd {NODE} && npm ci)"
    if found is None or why is not None:
        if os.environ.get("CI_NODE"):
            pytest.fail(str(why))
        pytest.skip(str(why))
    return found


def test_the_sdk_for_node_js_knows_of_the_gateway_by_its_address_alone(node):
    """Thirty at once under a small limit, a stream, errors, counted tokens, models: as of the API itself."""
    command = [
        sys.executable,
        "-m",
        "claude_executor",
        "serve",
        "--port",
        "0",
        "--rpm",
        "1200",
        "--burst",
        "1",
    ]
    with running(SETTINGS) as server:
        environment = {**os.environ, "ANTHROPIC_BASE_URL": server.base_url, "ANTHROPIC_API_KEY": "k"}
        gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert gateway.stdout is not None
            address = gateway.stdout.readline().strip()
            asked = subprocess.run(
                [node, "ask.mjs"],
                cwd=NODE,
                env={**os.environ, "ANTHROPIC_BASE_URL": address},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            gateway.terminate()
            gateway.communicate(timeout=30)
        stats, verdict = server.stats(), server.verdict()
    assert asked.returncode == 0, asked.stderr
    data = json.loads(asked.stdout)
    assert len(set(data["ids"])) == 30
    assert set(data["attempts"]) == {1}
    assert data["stream"]["stop"] in ("end_turn", "max_tokens")
    assert data["stream"]["pieces"] > 1
    assert data["stream"]["text"].startswith("Answer")
    assert data["error"] == {"typed": True, "status": 404, "type": "not_found_error", "retry": "false"}
    assert data["refused"] == {"typed": True, "type": "invalid_request_error"}
    assert data["input_tokens"] > 0
    assert "claude-haiku-5-5" in data["models"]
    assert stats["by_status"] == {"200": 31, "404": 1}
    assert verdict.clean
    assert gateway.returncode == 0


async def keep(request):
    """What an upload was, for who asks."""
    body = await request.body()
    headers = request.headers
    data = {name: headers.get(name) for name in ("content-type", "content-length", "transfer-encoding")}
    return JSONResponse({"size": len(body), "files": body.count(b"filename="), **data})


@asynccontextmanager
async def listening(app):
    """The address of an application on a socket of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    serving = asyncio.create_task(server._serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    listener.close()


@pytest.mark.parametrize("sized", [True, False])
async def test_an_upload_goes_through_real_sockets(sized):
    """The SDK's own for files, with its type and length; and one whose length nobody knows."""
    api = Starlette(routes=[Route("/v1/files", keep, methods=["POST"])])
    async with listening(api) as api_address, http_client_for() as http_client:
        client = anthropic.AsyncAnthropic(api_key="k", base_url=api_address, http_client=http_client)
        app = Gateway(executor := Executor(client=client), client, http_client)
        async with executor, listening(app) as address:
            mine = anthropic.AsyncAnthropic(api_key="k", base_url=address, max_retries=0)
            async with mine:
                if sized:
                    raw = mine.beta.files.with_raw_response
                    response = await raw.upload(file=("name.txt", b"x" * 500_000))
                    data = json.loads(await response.text())
                else:
                    data = await mine.post("/v1/files", content=in_pieces(), cast_to=dict[str, object])
    if sized:
        assert data["files"] == 1
        assert str(data["content-type"]).startswith("multipart/form-data; boundary=")
        assert int(str(data["content-length"])) == data["size"] > 500_000
    else:
        assert (data["size"], data["content-length"]) == (300_000, None)
        assert data["transfer-encoding"] == "chunked"


async def in_pieces():
    for _ in range(3):
        yield b"y" * 100_000
