"""An ASGI application in front of the simulator, or of any other, that keeps what went in and out."""

import asyncio
from dataclasses import dataclass, field


@dataclass
class Exchanged:
    """One request as the API got it, and the answer as the API gave it."""

    method: str
    path: str
    query: str
    sent: list[tuple[str, str]]
    body: bytes = b""
    status: int | None = None
    headers: dict[str, list[str]] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def header(self, name):
        """Of the request: all its values."""
        return [value for known, value in self.sent if known == name]


class Recorded:
    """Passes everything through to an application."""

    def __init__(self, app):
        self.exchanges: list[Exchanged] = []
        self._app = app

    @property
    def last(self):
        return self.exchanges[-1]

    async def __call__(self, scope, receive, send):
        sent = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        raw_path = scope["raw_path"].decode()
        one = Exchanged(scope["method"], raw_path, scope["query_string"].decode(), sent)
        self.exchanges.append(one)

        async def heard():
            message = await receive()
            one.body += message.get("body", b"")
            return message

        async def said(message):
            if message["type"] == "http.response.start":
                one.status = message["status"]
                for name, value in message["headers"]:
                    one.headers.setdefault(name.decode(), []).append(value.decode())
            elif message.get("body"):
                one.pieces.append(message["body"])
                one.at.append(asyncio.get_running_loop().time())
            await send(message)

        await self._app(scope, heard, said)
