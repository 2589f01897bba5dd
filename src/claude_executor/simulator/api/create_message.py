"""``POST /v1/messages``: admission, generation, and the faults that may strike on the way.

The checks come in this order: key, errors for the whole organization, body, outage, limits, random faults.
"""

import math
from dataclasses import dataclass

from claude_executor.simulator.api.exchange import Exchange, Receive, Scope, Send
from claude_executor.simulator.limits.pools import Admission, LimitPool, Shortage
from claude_executor.simulator.messages import errors
from claude_executor.simulator.messages.errors import RANDOM_ERRORS, ErrorResponse
from claude_executor.simulator.messages.prompt_cache import Split
from claude_executor.simulator.messages.prompts import Prompt
from claude_executor.simulator.messages.replies import PING, GeneratedReply, compose, error_event
from claude_executor.simulator.organization import Organization

_MOST_PIECES = 12
_PIECES_AT_ONCE = 3
_PIECES_BETWEEN_PINGS = 4

_STREAM_ERRORS = {
    "stream_overloaded": ("overloaded_error", "Overloaded"),
    "stream_rate_limited": ("rate_limit_error", "Rate limited"),
}
_STALL = 3_600.0
_STREAM_FAULTS = (
    "stream_overloaded",
    "stream_rate_limited",
    "stream_dropped",
    "stream_cut",
    "stream_stalled",
)


@dataclass(slots=True)
class _Generation:
    """One admitted request, its place in the limits, and the faults drawn for it."""

    exchange: Exchange
    prompt: Prompt
    pool: LimitPool
    admission: Admission
    split: Split
    faults: list[str]


class CreateMessage:
    """The endpoint that answers prompts.

    Args:
        organization: The organization whose requests it serves.
    """

    def __init__(self, organization: Organization) -> None:
        self._organization = organization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        organization = self._organization
        exchange = Exchange(organization, scope, receive, send)
        organization.tick()
        organization.traffic.enter()
        try:
            await self._serve(exchange)
        finally:
            # A scheduled outage that is due must see the number in flight before this request leaves.
            organization.tick()
            organization.traffic.leave(exchange.status, exchange.cause)

    async def _serve(self, exchange: Exchange) -> None:
        organization, audit = self._organization, self._organization.audit
        body = await exchange.body()
        if body is None:
            return
        now = organization.tick()
        identity, digest, value = organization.reader.identify(body)
        prompt = organization.reader.read(identity, digest, value)
        pool_name = prompt.pool if isinstance(prompt, Prompt) else "none"
        audit.arrived(identity, pool_name, now, outage=organization.in_outage(pool_name))
        try:
            if organization.unreachable:
                exchange.ended = True
                exchange.cause = "unreachable"
                audit.broken(identity, now, begun=False)
                exchange.connection.cut("refuse")
                return
            admitted = self._admit(exchange, prompt, now)
            if isinstance(admitted, ErrorResponse):
                pool = organization.pool(pool_name) if isinstance(prompt, Prompt) else None
                exchange.ended = True
                audit.refused(identity, pool_name, admitted, now)
                await exchange.send_error(admitted, now, pool)
            else:
                await self._run(admitted)
        finally:
            if not exchange.ended:
                audit.left(identity, organization.tick(), begun=exchange.writing)

    def _admit(
        self, exchange: Exchange, prompt: Prompt | ErrorResponse, now: float
    ) -> _Generation | ErrorResponse:
        organization = self._organization
        rejection = exchange.rejection(now)
        if rejection is not None:
            return rejection
        if isinstance(prompt, ErrorResponse):
            return prompt
        if organization.in_outage(prompt.pool):
            return errors.outage(organization.faults)
        pool = organization.pool(prompt.pool)
        split = organization.cache.look_up(prompt)
        admission = pool.admit(
            self._estimate(prompt, split),
            prompt.max_tokens,
            now,
            ramp=organization.faults.ramp,
            wall=organization.wall(now),
        )
        if isinstance(admission, Shortage):
            return errors.over_limit(admission, prompt.model)
        organization.traffic.admitted(now)
        return _Generation(exchange, prompt, pool, admission, split, organization.draw_faults())

    def _estimate(self, prompt: Prompt, split: Split) -> float:
        error = self._organization.settings.estimate_error
        if not error:
            return split.counted
        lean = int(prompt.digest[:8], 16) / 0xFFFFFFFF * 2 - 1
        return max(1, round(split.counted * (1 + error * lean)))

    async def _run(self, generation: _Generation) -> None:
        """Fail the request with a random fault, or answer it."""
        organization, exchange = self._organization, generation.exchange
        now = organization.tick()
        try:
            for name in generation.faults:
                if name in RANDOM_ERRORS:
                    self._refund(generation, now)
                    exchange.ended = True
                    organization.audit.refused(
                        generation.prompt.identity, generation.pool.name, RANDOM_ERRORS[name], now
                    )
                    await exchange.send_error(RANDOM_ERRORS[name], now)
                    return
                if name == "reset" or (name == "stale_keepalive" and exchange.connection.reused):
                    self._refund(generation, now)
                    self._broken(generation, name, begun=False)
                    exchange.connection.cut("reset")
                    return
            await self._generate(generation)
        finally:
            produced = generation.pool.end(generation.admission, organization.tick())
            organization.traffic.wrote(generation.pool.name, produced)

    def _refund(self, generation: _Generation, now: float) -> None:
        if not self._organization.settings.failures_consume:
            generation.pool.give_back(generation.admission, now)

    async def _generate(self, generation: _Generation) -> None:
        organization, exchange, split = self._organization, generation.exchange, generation.split
        settings = organization.settings
        reply = compose(
            generation.prompt, split, organization.next_number(), settings.output_tokens, settings.seed
        )
        wait, seconds = self._pace(reply.tokens)
        if "slow_first_byte" in generation.faults:
            wait += organization.faults.slow_first_byte_seconds
        if not await exchange.connection.sleep(wait):
            return
        now = organization.tick()
        generation.pool.correct_input(generation.admission, split.counted, now)
        organization.cache.begin(generation.prompt)
        organization.traffic.read(
            generation.pool.name, fresh=split.fresh, cache_read=split.read, cache_written=split.written
        )
        generation.pool.begin_output(generation.admission, reply.tokens, seconds, now)
        exchange.writing = True
        if generation.prompt.stream:
            await self._stream_message(generation, reply, seconds)
        elif await exchange.connection.sleep(seconds):
            await self._send_message(generation, reply)

    def _pace(self, tokens: int) -> tuple[float, float]:
        """Return the seconds to the first token, and from the first to the last."""
        latency = self._organization.settings.latency
        factor = math.exp(self._organization.random.gauss(0, latency.spread)) if latency.spread else 1.0
        return latency.first_token * factor, tokens / latency.tokens_per_second * factor

    async def _send_message(self, generation: _Generation, reply: GeneratedReply) -> None:
        organization, exchange = self._organization, generation.exchange
        now = organization.tick()
        generation.pool.end(generation.admission, now)
        body = reply.body()
        if "garbage" in generation.faults:
            self._broken(generation, "garbage", begun=True)
            await exchange.send_json(body[: len(body) // 2], now, generation.pool)
            return
        await exchange.send_json(body, now, generation.pool)
        self._answered(generation)

    async def _stream_message(self, generation: _Generation, reply: GeneratedReply, seconds: float) -> None:
        organization, exchange = self._organization, generation.exchange
        pieces = reply.pieces(min(_MOST_PIECES if seconds else _PIECES_AT_ONCE, max(1, reply.tokens)))
        fault = next((name for name in generation.faults if name in _STREAM_FAULTS), None)
        breaks_after = organization.random.randrange(len(pieces)) if fault else len(pieces)
        pause = seconds / len(pieces)
        await exchange.begin_stream(organization.tick(), generation.pool, reply.opening())
        for index, piece in enumerate(pieces):
            if index == breaks_after and fault is not None:
                await self._break_off(generation, fault)
                return
            if not await exchange.connection.sleep(pause):
                return
            await exchange.send_chunk(PING + piece if index % _PIECES_BETWEEN_PINGS == 1 else piece)
        generation.pool.end(generation.admission, organization.tick())
        await exchange.end_stream(reply.closing())
        self._answered(generation)

    async def _break_off(self, generation: _Generation, fault: str) -> None:
        organization, exchange = self._organization, generation.exchange
        self._broken(generation, fault, begun=True)
        if fault in _STREAM_ERRORS:
            await exchange.end_stream(error_event(*_STREAM_ERRORS[fault]))
        elif fault == "stream_cut":
            await exchange.end_stream()
        elif fault == "stream_stalled":
            await exchange.connection.sleep(_STALL)
        else:
            exchange.connection.cut("reset" if organization.random.random() < 0.5 else "close")

    def _answered(self, generation: _Generation) -> None:
        """Record a delivered answer, unless the client disconnected while it was being sent."""
        if generation.exchange.connection.gone:
            return
        generation.exchange.ended = True
        generation.exchange.cause = "answered"
        self._organization.audit.answered(generation.prompt.identity, self._organization.tick())

    def _broken(self, generation: _Generation, cause: str, *, begun: bool) -> None:
        generation.exchange.ended = True
        generation.exchange.cause = cause
        self._organization.audit.broken(generation.prompt.identity, self._organization.tick(), begun=begun)
