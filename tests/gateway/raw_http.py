"""A client of an ASGI application that does all by hand: sends slowly, reads piece by piece, leaves."""

import asyncio
import json
from urllib.parse import unquote


class ByHand:
    """One request, under way from the moment it is made.

    Its body is `body`, or without one what it is fed. As many headers may have the same name as you like.

    Attributes:
        status: Of the answer, once its head has come.
        headers: Of the answer: by name, all their values.
        pieces: Of the answer's body, as they came.
        at: When each of them came.
        over: Whether the answer is complete.
        reads: Set as long as it reads what comes.
    """

    def __init__(self, app, path="/v1/messages", body=None, *, method="POST", headers=(), query=""):
        headers = list(headers.items() if isinstance(headers, dict) else headers)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        if body is not None:
            headers.append(("content-length", str(len(body))))
        elif method == "POST" and "content-length" not in dict(headers):
            headers.append(("transfer-encoding", "chunked"))
        self.status, self.headers = None, {}
        self.pieces, self.at, self.over = [], [], False
        self.reads = asyncio.Event()
        self.reads.set()
        self._to_app = asyncio.Queue()
        self._changed = asyncio.Event()
        if body is not None or method != "POST":
            self.feed(body or b"", more=False)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "server": ("gateway", 80),
            "client": ("127.0.0.1", 1),
        }
        self._task = asyncio.create_task(app(scope, self._to_app.get, self._send))

    def feed(self, piece, *, more=True):
        """Send a piece of the body."""
        self._to_app.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self):
        """Hang up."""
        self._to_app.put_nowait({"type": "http.disconnect"})

    async def until(self, ready):
        """Wait for it, or for the end."""
        while not ready() and not self._task.done():
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait([changed, self._task], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()

    async def end(self):
        """Wait until the application is done with it; raises what that raises."""
        await self._task
        return self

    @property
    def body(self):
        return b"".join(self.pieces)

    @property
    def error(self):
        """Of an error: its status, its type, and whether an SDK is to try again."""
        return (
            self.status,
            json.loads(self.body)["error"]["type"],
            self.headers.get("x-should-retry", [None])[0],
        )

    async def _send(self, message):
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status = message["status"]
            for name, value in message["headers"]:
                assert name == name.lower()
                self.headers.setdefault(name.decode(), []).append(value.decode())
        else:
            assert self.status is not None
            assert not self.over
            if message.get("body"):
                self.pieces.append(message["body"])
                self.at.append(asyncio.get_running_loop().time())
            self.over = not message.get("more_body", False)
            if self.over:
                self.leave()  # so servers say when all is said
        self._changed.set()
        await self.reads.wait()
