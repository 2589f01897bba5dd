"""``POST /v1/messages/count_tokens``: free, with a request limit of its own."""

import orjson

from claude_executor.simulator.api.exchange import Exchange, Receive, Scope, Send
from claude_executor.simulator.messages import errors
from claude_executor.simulator.messages.errors import ErrorResponse
from claude_executor.simulator.organization import Organization


class CountTokens:
    """The endpoint that counts the input tokens of a request without running it.

    Args:
        organization: The organization whose requests it serves.
    """

    def __init__(self, organization: Organization) -> None:
        self._organization = organization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        organization = self._organization
        exchange = Exchange(organization, scope, receive, send)
        body = await exchange.body()
        if body is None:
            return
        now = organization.tick()
        if organization.unreachable:
            exchange.connection.cut("refuse")
            return
        error = exchange.rejection(now)
        prompt = organization.reader.read(*organization.reader.identify(body), counting=True)
        if error is None and isinstance(prompt, ErrorResponse):
            error = prompt
        shortage = organization.admit_count_tokens(now) if error is None else None
        if shortage is not None:
            error = errors.over_limit(shortage, "count_tokens")
        if error is not None or isinstance(prompt, ErrorResponse):
            assert error is not None
            await exchange.send_error(error, now)
            return
        await exchange.send_json(orjson.dumps({"input_tokens": prompt.tokens}), now)
