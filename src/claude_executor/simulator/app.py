"""The simulator: one ASGI application, and the handle by which its owner looks at it and changes it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from claude_executor.simulator.api.create_message import CountTokens, Messages
from claude_executor.simulator.api.exchange import Receive, Scope, Send
from claude_executor.simulator.audit.verdict import Verdict
from claude_executor.simulator.organization import Organization
from claude_executor.simulator.world.faults import Change, Faults
from claude_executor.simulator.world.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

EPOCH = 1_790_000_000.0
"""What the wall clock says when a simulator starts, unless told otherwise: 2026-09-21 14:13:20 UTC."""


class Simulator:
    """An imitation of the Claude API as an ASGI application.

    It serves ``POST /v1/messages`` (streamed or not), ``POST /v1/messages/count_tokens``, ``GET /v1/models``,
    ``GET /v1/organizations/rate_limits``, and for its owner ``POST /simulator/faults``, ``GET
    /simulator/stats``, ``GET /simulator/verdict`` and ``POST /simulator/reset``.

    Args:
        settings: The organisation; the start tier at once and without latency if left out.
        faults: What goes wrong from the start.
        schedule: Pairs of seconds after the start and what changes then: a ``Faults``, or a mapping of its
            fields.
        clock: Seconds from anywhere. In an event loop with virtual time, pass its ``time``.
        epoch: Unix time at the start, for ``Date`` and the resets of limits.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        faults: Faults | None = None,
        schedule: Sequence[tuple[float, Change]] = (),
        clock: Callable[[], float] = time.monotonic,
        epoch: float = EPOCH,
    ) -> None:
        self.settings = Settings() if settings is None else settings
        self._faults = Faults() if faults is None else faults
        self._schedule = tuple(schedule)
        self._clock = clock
        self._epoch = epoch
        self._other: Starlette | None = None
        self.reset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            if scope["path"] == "/v1/messages":
                await self._messages(scope, receive, send)
                return
            if scope["path"] == "/v1/messages/count_tokens":
                await self._count_tokens(scope, receive, send)
                return
        if self._other is None:
            from claude_executor.simulator.api.routes import application

            self._other = application(self)
        await self._other(scope, receive, send)

    @property
    def organization(self) -> Organization:
        """The live state, for those who want to look closer than ``stats`` does."""
        return self._organization

    @property
    def faults(self) -> Faults:
        """What goes wrong at present."""
        self._organization.tick()
        return self._organization.faults

    def set_faults(self, faults: Faults | None = None, /, **changes: Any) -> None:  # noqa: ANN401
        """Change what goes wrong, from now on.

        Args:
            faults: A whole new set; the present one if left out.
            changes: Fields of ``Faults`` to change in it.

        Raises:
            ValueError: A name is unknown or a value is out of range.
        """
        if faults is not None:
            self._organization.set_faults(faults.changed(changes))
        else:
            self._organization.set_faults(changes)

    def stats(self) -> dict[str, Any]:
        """What happened so far, in numbers that JSON can hold."""
        return self._organization.stats()

    def verdict(self) -> Verdict:
        """How the client behaved so far."""
        return self._organization.verdict()

    def reset(self) -> None:
        """Begin anew: full buckets, empty books, the first faults, the schedule from its start."""
        self._organization = Organization(
            self.settings, self._faults, self._schedule, self._clock, self._epoch
        )
        self._messages = Messages(self._organization)
        self._count_tokens = CountTokens(self._organization)
