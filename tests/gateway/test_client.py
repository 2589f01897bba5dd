"""Clients of the API: what a check of the key finds out."""

import asyncio
import socket

import httpx2
import pytest
import respx

from claude_executor.gateway import ApiError, connect, fetch, http_client_for

URL = "http://api.example"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx2.Response(401, json={"error": {"type": "authentication_error"}}), 401),
        (httpx2.Response(500, text="<html>"), 500),
        (httpx2.Response(200, text="{broken", headers={"content-type": "application/json"}), 200),
    ],
)
async def test_an_error_of_the_api_is_told_by_its_status(answer, status):
    """Then the key is not to blame."""
    with respx.mock() as api:
        api.get(f"{URL}/v1/models").mock(side_effect=[answer])
        async with connect(base_url=URL, api_key="sk-ant-secret") as client:
            with pytest.raises(ApiError) as caught:
                await fetch(client, "/v1/models", {"limit": 1})
    assert (caught.value.status, caught.value.key_unusable) == (status, False)


@pytest.mark.parametrize(
    ("scheme", "said"),
    [("http", "^connection refused$"), ("https", r"^TLS handshake failed \(is it http://\?\)$")],
)
async def test_where_nothing_answers_the_cause_is_named(scheme, said):
    """A closed port; a server that does not speak TLS."""

    async def hello(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", 0) as server, http_client_for() as http_client:
        port = server.sockets[0].getsockname()[1]
        if scheme == "http":
            server.close()
            await server.wait_closed()
        client = connect(base_url=f"{scheme}://127.0.0.1:{port}", api_key="k", http_client=http_client)
        with pytest.raises(ApiError, match=said) as caught:
            await fetch(client, "/v1/models")
    assert (caught.value.status, caught.value.key_unusable) == (None, False)


async def test_a_key_that_no_header_can_hold_is_blamed_and_not_shown():
    """The server is there, and is not asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with connect(base_url=url, api_key="sk-ant-\nsecret") as client:
            with pytest.raises(ApiError) as caught:
                await fetch(client, "/v1/models")
    assert caught.value.key_unusable
    assert "secret" not in str(caught.value)
