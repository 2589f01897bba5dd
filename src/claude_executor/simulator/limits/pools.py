"""The limits of one pool of models, and whether a request may pass.

Admission follows the published rules where there are any: one request from the request bucket, the estimated
uncached input from the input bucket, and an output bucket that is not empty. A request refused for its tokens
takes nothing, not even the request (seen in a recorded 429).
"""

from dataclasses import dataclass, field
from typing import Literal

from claude_executor.simulator.limits.buckets import Flow, Tank, quoted
from claude_executor.simulator.world.faults import Neighbours
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.ramp import Climb, Ramp
from claude_executor.simulator.world.settings import Settings

Resource = Literal["requests", "input_tokens", "output_tokens"]
RESOURCES: tuple[Resource, ...] = ("requests", "input_tokens", "output_tokens")

# "More than nothing" in the output bucket, as an amount: what was waited for as told must be enough.
_LEAST_OUTPUT = 0.001

# Seconds that no clock resolves well enough to divide tokens by.
_AT_ONCE = 1e-4


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a request may not pass now.

    Attributes:
        resource: What is short.
        cause: ``"requests"``, ``"window"`` (the hidden one), ``"input_tokens"``, ``"output_tokens"`` or
            ``"ramp"``.
        limit: The limit in force, per minute.
        retry_after: What the client is told, in whole seconds.
        following: For a ramp, the cap of the next minute.
    """

    resource: Resource
    cause: str
    limit: int
    retry_after: int
    following: int = 0


@dataclass(slots=True)
class Admission:
    """What one admitted request holds of its pool until it ends."""

    estimate: float
    output: Tank | None = None
    reserved: float = 0.0
    flow: Flow | None = None
    produced: float = 0.0
    settled: bool = field(default=False)


class LimitPool:
    """The live buckets of one pool.

    Args:
        name: The pool's name.
        rates: Its limits.
        settings: Capacity and rules.
        now: The current instant.
    """

    def __init__(self, name: str, rates: Rates, settings: Settings, now: float) -> None:
        self.name = name
        self._settings = settings
        self._rates = Rates()
        self._climb = Climb()
        self.requests: Tank | None = None
        self.input_tokens: Tank | None = None
        self.output_tokens: Tank | None = None
        self._window: Tank | None = None
        self.change(rates, Neighbours(), now)

    def change(self, rates: Rates, neighbours: Neighbours, now: float) -> None:
        """Put other limits, or other neighbours, in force from ``now`` on."""
        burst = self._settings.burst
        self.requests = _changed(self.requests, rates.rpm, burst, neighbours.requests, now)
        self.input_tokens = _changed(self.input_tokens, rates.itpm, burst, neighbours.input_tokens, now)
        self.output_tokens = _changed(self.output_tokens, rates.otpm, burst, neighbours.output_tokens, now)
        if self._settings.window is not None:
            self._window = _changed(self._window, rates.rpm, self._settings.window, neighbours.requests, now)

    def tank(self, resource: Resource) -> Tank | None:
        """The bucket of one resource; ``None`` if it is unlimited."""
        if resource == "requests":
            return self.requests
        return self.input_tokens if resource == "input_tokens" else self.output_tokens

    def admit(
        self, estimate: float, max_tokens: int, now: float, *, ramp: Ramp | None = None, wall: float = 0.0
    ) -> Admission | Shortage:
        """Let a request in and take its share, or say what is short and take nothing.

        Args:
            estimate: Uncached input tokens as the server guesses them.
            max_tokens: The request's own bound; matters only under the old reservation rule.
            now: The current instant.
            ramp: The limit on growth, if there is one.
            wall: Unix time, for the limit on growth.
        """
        short = self._short(estimate, max_tokens, now)
        if short is not None:
            return short
        if ramp is not None:
            steep = self._climb.check(estimate, ramp, wall)
            if steep is not None:
                return Shortage("input_tokens", "ramp", steep.current, quoted(steep.wait), steep.following)
            self._climb.use(estimate)
        if self.requests is not None:
            self.requests.take(1, now)
        if self._window is not None:
            self._window.take(1, now)
        if self.input_tokens is not None:
            self.input_tokens.take(estimate, now)
        # Kept with the grant: the limits may be replaced while the answer is being generated.
        grant = Admission(estimate, self.output_tokens)
        if self._settings.reserve_max_tokens and self.output_tokens is not None:
            grant.reserved = float(max_tokens)
            self.output_tokens.take(grant.reserved, now)
        return grant

    def correct_input(self, grant: Admission, actual: float, now: float) -> None:
        """Replace the estimate by the truth, as the API does when the answer begins."""
        if self.input_tokens is not None:
            self.input_tokens.take(actual - grant.estimate, now)
        grant.estimate = actual

    def begin_output(self, grant: Admission, tokens: float, seconds: float, now: float) -> None:
        """Let the answer's tokens leave the output bucket, evenly over ``seconds`` (few: at once)."""
        if seconds <= _AT_ONCE:
            grant.produced = tokens
            if grant.output is not None and not grant.reserved:
                grant.output.take(tokens, now)
        elif grant.output is None or grant.reserved:
            grant.flow = Flow(tokens, seconds, now)
        else:
            grant.flow = grant.output.begin(tokens, seconds, now)

    def end(self, grant: Admission, now: float) -> float:
        """Finish a request, however it ended. Doing so twice changes nothing.

        Returns:
            The output tokens it really produced.
        """
        if grant.settled:
            return grant.produced
        grant.settled = True
        if grant.flow is not None:
            if grant.output is None or grant.reserved:
                grant.produced = grant.flow.drawn(now)
            else:
                grant.produced = grant.output.end(grant.flow, now)
        if grant.reserved and grant.output is not None:
            grant.output.take(grant.produced - grant.reserved, now)
        return grant.produced

    def give_back(self, grant: Admission, now: float) -> None:
        """Undo an admission that came to nothing."""
        self.end(grant, now)
        for tank, amount in ((self.requests, 1.0), (self._window, 1.0), (self.input_tokens, grant.estimate)):
            if tank is not None:
                tank.take(-amount, now)
        self._climb.use(-grant.estimate)

    def _short(self, estimate: float, max_tokens: int, now: float) -> Shortage | None:
        reserved = float(max_tokens) if self._settings.reserve_max_tokens else _LEAST_OUTPUT
        worst: Shortage | None = None
        for resource, cause, tank, need in (
            ("requests", "requests", self.requests, 1.0),
            ("requests", "window", self._window, 1.0),
            ("input_tokens", "input_tokens", self.input_tokens, estimate),
            ("output_tokens", "output_tokens", self.output_tokens, reserved),
        ):
            if tank is None:
                continue
            wanted = min(need, tank.capacity) if self._settings.oversized == "when-full" else need
            if tank.holds(wanted, now):
                continue
            wait = quoted(tank.wait(wanted, now))
            if worst is None or wait > worst.retry_after:
                worst = Shortage(resource, cause, tank.per_minute, wait)  # type: ignore[arg-type]
        return worst


def _changed(
    tank: Tank | None, per_minute: int | None, seconds: float, neighbours: float, now: float
) -> Tank | None:
    if per_minute is None:
        return None
    if tank is None:
        tank = Tank(per_minute, seconds, now)
    elif tank.per_minute != per_minute:
        tank.change(per_minute, seconds, now)
    tank.level(now)
    tank.neighbours = neighbours
    return tank
