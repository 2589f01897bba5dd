"""The simulator: one ASGI application, and the object through which a test inspects and changes it."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from claude_executor.simulator.api.count_tokens import CountTokens
from claude_executor.simulator.api.create_message import CreateMessage
from claude_executor.simulator.api.exchange import Receive, Scope, Send
from claude_executor.simulator.api.routes import application
from claude_executor.simulator.audit.verdict import Verdict
from claude_executor.simulator.organization import Organization
from claude_executor.simulator.world.faults import Change, Faults
from claude_executor.simulator.world.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

EPOCH = 1_790_000_000.0
"""The default Unix time at which a simulator starts: 2026-09-21 14:13:20 UTC."""


class Simulator:
    """An imitation of the Claude API as an ASGI application.

    The endpoints of the API: ``POST /v1/messages`` (streamed or not), ``POST /v1/messages/count_tokens``,
    ``GET /v1/models`` and ``GET /v1/organizations/rate_limits``. The endpoints that control the simulator:
    ``POST /simulator/faults``, ``GET /simulator/stats``, ``GET /simulator/verdict`` and ``POST
    /simulator/reset``. They need no key.

    Args:
        settings: The organization. The default has the limits of the start tier and no latency.
        faults: The faults at the start. The default is none.
        schedule: Changes to make later: pairs of seconds after the start and a ``Faults`` or a mapping of
            its fields.
        clock: Returns seconds from any starting point. In an event loop with virtual time, pass
            ``claude_executor.testing.loop_time``.
        epoch: Unix time at the start, for the ``Date`` and ``anthropic-ratelimit-*-reset`` headers.

    Attributes:
        settings: The organization's settings.
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
            self._other = application(self)
        await self._other(scope, receive, send)

    @property
    def organization(self) -> Organization:
        """The live state, for a closer look than ``stats`` gives. ``reset`` replaces it."""
        return self._organization

    @property
    def faults(self) -> Faults:
        """The faults in force now."""
        self._organization.tick()
        return self._organization.faults

    def set_faults(self, faults: Faults | None = None, /, **changes: Any) -> None:  # noqa: ANN401
        """Change the faults from now on.

        Args:
            faults: A complete new set. The default keeps the current one.
            changes: Fields of ``Faults`` to change in that set.

        Raises:
            ValueError: A name is unknown or a value is out of range.
        """
        if faults is not None:
            self._organization.set_faults(faults.changed(changes))
        else:
            self._organization.set_faults(changes)

    def stats(self) -> dict[str, Any]:
        """Return traffic statistics so far, as JSON values: requests, tokens, concurrency, bucket levels."""
        return self._organization.stats()

    def verdict(self) -> Verdict:
        """Return the verdict on the client so far."""
        return self._organization.verdict()

    def reset(self) -> None:
        """Start over: full buckets, empty statistics, the initial faults, the schedule from its beginning."""
        self._organization = Organization(
            self.settings, self._faults, self._schedule, self._clock, self._epoch
        )
        self._messages = CreateMessage(self._organization)
        self._count_tokens = CountTokens(self._organization)
