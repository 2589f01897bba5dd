"""What draws on no limit of the executor's is passed on at once, and all of it: headers, bodies, answers."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.gateway.gateway_harness import OUR_KEY, prompt

PIECE = b"0123456789abcdef" * 4_096


async def echo(request):
    """What came, as it came."""
    data = {"method": request.method, "query": request.url.query, "size": len(await request.body())}
    return JSONResponse(
        data, headers={"request-id": "req_1", "x-of-the-api": "1", "connection": "keep-alive"}
    )


async def fail(request):
    body = b'{"type":"error","error":{"type":"not_found_error","message":"no such batch"}}'
    headers = {"content-type": "application/json", "x-should-retry": "true", "retry-after": "7"}
    return Response(body, 404 if request.method == "GET" else 503, headers=headers)


async def download(request):
    async def pieces():
        for _ in range(20):
            await asyncio.sleep(1.0)
            yield PIECE

    return StreamingResponse(pieces(), media_type="application/octet-stream")


async def gone(request):
    return Response(status_code=204)


async def cookie(request):
    return Response(headers={"set-cookie": "session=1"})


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
API = Starlette(
    routes=[
        Route("/v1/echo", echo, methods=METHODS),
        Route("/v1/messages", echo, methods=["GET"]),
        Route("/v1/messages/batches", echo, methods=METHODS),
        Route("/v1/cookie", cookie, methods=["GET"]),
        Route("/v1/files/{name:path}", download, methods=["GET"]),
        Route("/v1/files/{name:path}", gone, methods=["DELETE"]),
        Route("/v1/fail", fail, methods=METHODS),
    ]
)


@pytest.mark.parametrize(
    ("method", "body"),
    [("GET", None), *((method, body) for method in METHODS[1:] for body in (b"", b"some bytes"))],
)
async def test_any_method_is_passed_on(serve, method, body):
    """With its query as it was written, and with its body if it has one; nothing is paced."""
    async with serve(api=API) as served:
        answer = await served.ask(body, "/v1/echo", method=method, query="limit=2&after=a%2Fb&x=").end()
        assert served.executor.snapshot().attempts == 0
    assert answer.status == 200
    assert answer.headers["x-of-the-api"] == ["1"]
    assert answer.headers["request-id"] == ["req_1"]
    assert answer.headers["x-claude-executor-attempts"] == ["1"]
    assert "connection" not in answer.headers
    assert answer.body == b"".join(served.api.last.pieces)
    assert served.api.last.query == "limit=2&after=a%2Fb&x="
    assert served.api.last.method == method
    assert served.api.last.body == (body or b"")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/batches"])
async def test_other_uses_of_a_paced_path_are_passed_on(serve, path):
    """Only what asks for a message draws on a limit."""
    async with serve(api=API) as served:
        assert (await served.ask(None, path, method="GET").end()).status == 200
        assert served.executor.snapshot().attempts == 0


@pytest.mark.parametrize("size", [None, 3 * len(PIECE)])
async def test_an_upload_is_passed_on_as_it_comes(serve, size):
    """With its length, if that was told, and otherwise in chunks; of any kind."""
    headers = {"content-type": "multipart/form-data; boundary=x"}
    if size is not None:
        headers["content-length"] = str(size)
    async with serve(api=API) as served:
        answer = served.ask(None, "/v1/echo", headers=headers)
        for number in range(3):
            await asyncio.sleep(1.0)
            answer.feed(PIECE, more=number < 2)
        await answer.end()
    assert answer.status == 200
    said = served.api.last
    assert said.body == 3 * PIECE
    assert said.header("content-type") == ["multipart/form-data; boundary=x"]
    assert said.header("content-length") == ([] if size is None else [str(size)])
    assert said.header("transfer-encoding") == (["chunked"] if size is None else [])


async def test_a_large_download_comes_piece_by_piece(serve):
    """All of it, and none of it is kept."""
    async with serve(api=API) as served:
        answer = await served.ask(None, "/v1/files/f1/content", method="GET").end()
    assert answer.status == 200
    assert answer.body == 20 * PIECE
    assert len(answer.pieces) == 20
    assert "content-length" not in answer.headers
    assert answer.headers["content-type"] == ["application/octet-stream"]


async def test_an_answer_without_a_body_is_passed_back(serve):
    """As of a deletion."""
    async with serve(api=API) as served:
        answer = await served.ask(None, "/v1/files/f1", method="DELETE").end()
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_error_is_the_apis(serve, method):
    """Its own advice stands: it was tried once, and its client may try again."""
    async with serve(api=API) as served:
        answer = await served.ask(b"", "/v1/fail", method=method).end()
    assert len(served.api.exchanges) == 1
    assert answer.status == (404 if method == "GET" else 503)
    assert answer.body == b"".join(served.api.last.pieces)
    assert answer.headers["x-should-retry"] == ["true"]
    assert answer.headers["retry-after"] == ["7"]


@pytest.mark.parametrize("path", ["/v1/files/a%20b", "/v1/files/a:b@c", "/v1/files/%e4%BD%A0"])
async def test_a_path_is_passed_on_as_it_was_written(serve, path):
    """What had to be encoded stays so."""
    async with serve(api=API) as served:
        assert (await served.ask(None, path, method="GET").end()).status == 200
    assert served.api.last.path == path


async def test_a_cookie_is_nobody_elses(serve):
    """What the API gives to one client is neither sent back nor passed on."""
    async with serve(api=API) as served:
        for _ in range(2):
            answer = await served.ask(None, "/v1/cookie", method="GET").end()
            assert "set-cookie" not in answer.headers


PRIVATE = {
    "authorization": "Bearer of-the-client",
    "x-api-key": "of-the-client",
    "cookie": "session=1",
    "connection": "keep-alive, X-Of-The-Hop",
    "x-of-the-hop": "1",
    "keep-alive": "timeout=5",
    "proxy-authorization": "Basic abc",
    "proxy-connection": "keep-alive",
    "te": "trailers",
    "trailer": "x-sum",
    "upgrade": "h2c",
    "via": "1.1 proxy",
    "forwarded": "for=10.0.0.1",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "inside.example",
    "x-forwarded-proto": "https",
    "x-real-ip": "10.0.0.1",
    "sec-fetch-site": "none",
    "x-claude-executor-tenant": "the-tenant",
    "x-stainless-lang": "js",
    "x-stainless-retry-count": "2",
    "expect": "100-continue",
}
MEANT = {
    "anthropic-version": "2023-06-01",
    "user-agent": "Anthropic/JS 1.12.0",
    "accept": "application/json",
    "idempotency-key": "key-1",
    "x-of-the-user": "1",
}


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/v1/messages", "POST", prompt()),
        ("/v1/messages", "POST", prompt(stream=True)),
        ("/v1/messages/count_tokens", "POST", prompt()),
        ("/v1/models", "GET", None),
    ],
)
async def test_headers_for_the_api_are_sent_on_and_no_others(serve, path, method, body):
    """Not those of the way, not those that tell of the client's own network, and not its key."""
    headers = [*PRIVATE.items(), *MEANT.items(), ("anthropic-beta", "one"), ("anthropic-beta", "two")]
    async with serve() as served:
        answer = await served.ask(body, path, method=method, headers=headers).end()
    assert answer.status == 200
    said = served.api.last
    for name, value in MEANT.items():
        assert said.header(name) == [value]
    assert said.header("anthropic-beta") == ["one, two"]
    ours = {
        "authorization",
        "via",
        "connection",
        "x-stainless-lang",
        "x-stainless-retry-count",
    }  # has other values
    for name, value in PRIVATE.items():
        assert value not in said.header(name)
        assert name in ours or said.header(name) == []
    assert said.header("authorization") == [f"Bearer {OUR_KEY}"]
    assert "of-the-client" not in str(said.sent)
    assert OUR_KEY not in f"{answer.headers} {answer.body}"


async def test_a_client_can_name_no_other_key_or_host(serve):
    """Whatever it sends, the request goes to the gateway's API with the gateway's key, once."""
    headers = [
        ("host", "127.0.0.1:8484"),
        ("x-api-key", "a"),
        ("X-API-Key", "b"),
        ("Authorization", "Bearer c"),
    ]
    async with serve() as served:
        await served.ask(prompt(), headers=headers).end()
    said = served.api.last
    assert said.header("host") == ["simulator"]
    assert said.header("x-api-key") + said.header("authorization") == [f"Bearer {OUR_KEY}"]
