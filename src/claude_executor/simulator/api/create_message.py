"""``POST /v1/messages``: admission, generation, and everything that may go wrong on the way.

The order of the checks: key, episodes that concern the whole organisation, the body, an outage, the limits,
chance.
"""

import math
from dataclasses import dataclass

import orjson

from claude_executor.simulator.api.exchange import Exchange, Receive, Scope, Send
from claude_executor.simulator.limits.pools import Admission, LimitPool, Shortage
from claude_executor.simulator.messages import errors as refusals
from claude_executor.simulator.messages.errors import BY_CHANCE, ErrorResponse
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
    """One admitted request."""

    exchange: Exchange
    prompt: Prompt
    pool: LimitPool
    grant: Admission
    split: Split
    struck: list[str]


class Messages:
    """The endpoint.

    Args:
        organization: Whose requests it serves.
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
            # Before the number of running requests changes, let a scheduled outage see the old one.
            organization.tick()
            organization.traffic.leave(exchange.status, exchange.cause)

    async def _serve(self, exchange: Exchange) -> None:
        organization, witness = self._organization, self._organization.audit
        body = await exchange.body()
        if body is None:
            return
        now = organization.tick()
        identity, digest, value = organization.reader.identify(body)
        prompt = organization.reader.read(identity, digest, value)
        name = prompt.pool if isinstance(prompt, Prompt) else "none"
        witness.arrived(identity, name, now, outage=organization.out(name))
        try:
            if organization.unreachable:
                exchange.ended = True
                exchange.cause = "unreachable"
                witness.broken(identity, now, begun=False)
                exchange.connection.cut("refuse")
                return
            admitted = self._admit(exchange, prompt, now)
            if isinstance(admitted, ErrorResponse):
                pool = organization.pool(name) if isinstance(prompt, Prompt) else None
                exchange.ended = True
                witness.refused(identity, name, admitted, now)
                await exchange.refuse(admitted, now, pool)
            else:
                await self._perform(admitted)
        finally:
            if not exchange.ended:
                witness.left(identity, organization.tick(), begun=exchange.writing)

    def _admit(
        self, exchange: Exchange, prompt: Prompt | ErrorResponse, now: float
    ) -> _Generation | ErrorResponse:
        organization = self._organization
        barred = exchange.rejection(now)
        if barred is not None:
            return barred
        if isinstance(prompt, ErrorResponse):
            return prompt
        if organization.out(prompt.pool):
            return refusals.outage(organization.faults)
        pool = organization.pool(prompt.pool)
        split = organization.cache.look_up(prompt)
        grant = pool.admit(
            self._estimate(prompt, split),
            prompt.max_tokens,
            now,
            ramp=organization.faults.ramp,
            wall=organization.wall(now),
        )
        if isinstance(grant, Shortage):
            return refusals.over_limit(grant, prompt.model)
        organization.traffic.admitted(now)
        return _Generation(exchange, prompt, pool, grant, split, organization.struck())

    def _estimate(self, prompt: Prompt, split: Split) -> float:
        error = self._organization.settings.estimate_error
        if not error:
            return split.counted
        lean = int(prompt.digest[:8], 16) / 0xFFFFFFFF * 2 - 1
        return max(1, round(split.counted * (1 + error * lean)))

    async def _perform(self, job: _Generation) -> None:
        """Strike the request down by chance, or answer it."""
        organization, exchange = self._organization, job.exchange
        now = organization.tick()
        try:
            for name in job.struck:
                if name in BY_CHANCE:
                    self._undo(job, now)
                    exchange.ended = True
                    organization.audit.refused(job.prompt.identity, job.pool.name, BY_CHANCE[name], now)
                    await exchange.refuse(BY_CHANCE[name], now)
                    return
                if name == "reset" or (name == "stale_keepalive" and exchange.connection.reused):
                    self._undo(job, now)
                    self._broken(job, name, begun=False)
                    exchange.connection.cut("reset")
                    return
            await self._generate(job)
        finally:
            produced = job.pool.end(job.grant, organization.tick())
            organization.traffic.wrote(job.pool.name, produced)

    def _undo(self, job: _Generation, now: float) -> None:
        if not self._organization.settings.failures_consume:
            job.pool.give_back(job.grant, now)

    async def _generate(self, job: _Generation) -> None:
        organization, exchange, split = self._organization, job.exchange, job.split
        settings = organization.settings
        reply = compose(job.prompt, split, organization.number(), settings.output_tokens, settings.seed)
        wait, seconds = self._pace(reply.tokens)
        if "slow_first_byte" in job.struck:
            wait += organization.faults.slow_first_byte_seconds
        if not await exchange.connection.sleep(wait):
            return
        now = organization.tick()
        job.pool.correct_input(job.grant, split.counted, now)
        organization.cache.begin(job.prompt)
        organization.traffic.read(
            job.pool.name, fresh=split.fresh, cache_read=split.read, cache_written=split.written
        )
        job.pool.begin_output(job.grant, reply.tokens, seconds, now)
        exchange.writing = True
        if job.prompt.stream:
            await self._stream(job, reply, seconds)
        elif await exchange.connection.sleep(seconds):
            await self._whole(job, reply)

    def _pace(self, tokens: int) -> tuple[float, float]:
        """Seconds to the first token, and from it to the last."""
        latency = self._organization.settings.latency
        factor = math.exp(self._organization.random.gauss(0, latency.spread)) if latency.spread else 1.0
        return latency.first_token * factor, tokens / latency.tokens_per_second * factor

    async def _whole(self, job: _Generation, reply: GeneratedReply) -> None:
        organization, exchange = self._organization, job.exchange
        now = organization.tick()
        job.pool.end(job.grant, now)
        body = reply.body()
        if "garbage" in job.struck:
            self._broken(job, "garbage", begun=True)
            await exchange.answer(body[: len(body) // 2], now, job.pool)
            return
        await exchange.answer(body, now, job.pool)
        self._answered(job)

    async def _stream(self, job: _Generation, reply: GeneratedReply, seconds: float) -> None:
        organization, exchange = self._organization, job.exchange
        pieces = reply.pieces(min(_MOST_PIECES if seconds else _PIECES_AT_ONCE, max(1, reply.tokens)))
        fault = next((name for name in job.struck if name in _STREAM_FAULTS), None)
        breaks_after = organization.random.randrange(len(pieces)) if fault else len(pieces)
        pause = seconds / len(pieces)
        await exchange.begin(organization.tick(), job.pool, reply.opening())
        for index, piece in enumerate(pieces):
            if index == breaks_after and fault is not None:
                await self._break_off(job, fault)
                return
            if not await exchange.connection.sleep(pause):
                return
            await exchange.more(PING + piece if index % _PIECES_BETWEEN_PINGS == 1 else piece)
        job.pool.end(job.grant, organization.tick())
        await exchange.end(reply.closing())
        self._answered(job)

    async def _break_off(self, job: _Generation, fault: str) -> None:
        organization, exchange = self._organization, job.exchange
        self._broken(job, fault, begun=True)
        if fault in _STREAM_ERRORS:
            await exchange.end(error_event(*_STREAM_ERRORS[fault]))
        elif fault == "stream_cut":
            await exchange.end()
        elif fault == "stream_stalled":
            await exchange.connection.sleep(_STALL)
        else:
            exchange.connection.cut("reset" if organization.random.random() < 0.5 else "close")

    def _answered(self, job: _Generation) -> None:
        """Note a delivered answer, unless the client left while it was being sent."""
        if job.exchange.connection.gone:
            return
        job.exchange.ended = True
        job.exchange.cause = "answered"
        self._organization.audit.answered(job.prompt.identity, self._organization.tick())

    def _broken(self, job: _Generation, cause: str, *, begun: bool) -> None:
        job.exchange.ended = True
        job.exchange.cause = cause
        self._organization.audit.broken(job.prompt.identity, self._organization.tick(), begun=begun)


class CountTokens:
    """``POST /v1/messages/count_tokens``: free, with a request limit of its own.

    Args:
        organization: Whose requests it serves.
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
        refusal = exchange.rejection(now)
        prompt = organization.reader.read(*organization.reader.identify(body), counting=True)
        if refusal is None and isinstance(prompt, ErrorResponse):
            refusal = prompt
        short = organization.count(now) if refusal is None else None
        if short is not None:
            refusal = refusals.over_limit(short, "count_tokens")
        if refusal is not None or isinstance(prompt, ErrorResponse):
            assert refusal is not None
            await exchange.refuse(refusal, now)
            return
        await exchange.answer(orjson.dumps({"input_tokens": prompt.tokens}), now)
