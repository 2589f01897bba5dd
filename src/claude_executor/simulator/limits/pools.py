"""The limits of one pool of models, and the decision whether a request is admitted.

Admission follows the published rules where they exist: one request from the request bucket, the estimated
uncached input from the input bucket, and an output bucket that is not empty. A request that is rejected for
its tokens takes nothing from any bucket, not even from the request bucket (seen in a recorded 429).
"""

from dataclasses import dataclass, field
from typing import Literal

from claude_executor.simulator.limits.buckets import Flow, LimitBucket, retry_after_seconds
from claude_executor.simulator.world.faults import Neighbours
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.ramp import Ramp, RampState
from claude_executor.simulator.world.settings import Settings

Resource = Literal["requests", "input_tokens", "output_tokens"]
RESOURCES: tuple[Resource, ...] = ("requests", "input_tokens", "output_tokens")

# The least level at which the output bucket is "not empty": a client that waits its retry-after finds it.
_LEAST_OUTPUT = 0.001

# Answers generated within this time, in seconds, leave the bucket at once: clocks resolve no shorter flow.
_AT_ONCE = 1e-4


@dataclass(frozen=True, slots=True)
class Shortage:
    """The reason why a request is not admitted now.

    Attributes:
        resource: The resource that is short.
        cause: ``"requests"``, ``"window"`` (the hidden bucket), ``"input_tokens"``, ``"output_tokens"`` or
            ``"ramp"``.
        limit: The limit in force, per minute.
        retry_after: The ``retry-after`` header, in whole seconds.
        following: For the ramp limit, the cap of the next minute.
    """

    resource: Resource
    cause: str
    limit: int
    retry_after: int
    following: int = 0


@dataclass(slots=True)
class Admission:
    """The amounts that one admitted request holds of its pool until it ends.

    Attributes:
        estimate: Input tokens taken.
        output: The output bucket at admission; ``None`` for no limit.
        reserved: Output tokens reserved at admission, under the old reservation rule.
        flow: The answer being generated, once it has begun.
        produced: Output tokens produced, once the request has ended.
        settled: Whether the request has ended.
    """

    estimate: float
    output: LimitBucket | None = None
    reserved: float = 0.0
    flow: Flow | None = None
    produced: float = 0.0
    settled: bool = field(default=False)


class LimitPool:
    """The live buckets of one pool.

    Args:
        name: The pool's name.
        rates: The limits at the start.
        settings: The capacity of the buckets and the rules of admission.
        now: The current instant.
    """

    def __init__(self, name: str, rates: Rates, settings: Settings, now: float) -> None:
        self.name = name
        self._settings = settings
        self._rates = Rates()
        self._ramp = RampState()
        self.requests: LimitBucket | None = None
        self.input_tokens: LimitBucket | None = None
        self.output_tokens: LimitBucket | None = None
        self._window: LimitBucket | None = None
        self.change(rates, Neighbours(), now)

    def change(self, rates: Rates, neighbours: Neighbours, now: float) -> None:
        """Apply other limits or other neighbours from ``now`` on."""
        burst = self._settings.burst
        self.requests = _changed(self.requests, rates.rpm, burst, neighbours.requests, now)
        self.input_tokens = _changed(self.input_tokens, rates.itpm, burst, neighbours.input_tokens, now)
        self.output_tokens = _changed(self.output_tokens, rates.otpm, burst, neighbours.output_tokens, now)
        if self._settings.window is not None:
            self._window = _changed(self._window, rates.rpm, self._settings.window, neighbours.requests, now)

    def bucket(self, resource: Resource) -> LimitBucket | None:
        """Return the bucket of one resource; ``None`` if the resource is unlimited."""
        if resource == "requests":
            return self.requests
        return self.input_tokens if resource == "input_tokens" else self.output_tokens

    def admit(
        self, estimate: float, max_tokens: int, now: float, *, ramp: Ramp | None = None, wall: float = 0.0
    ) -> Admission | Shortage:
        """Admit a request and take its tokens, or return the shortage and take nothing.

        Args:
            estimate: Uncached input tokens, as the server estimates them.
            max_tokens: The request's ``max_tokens``; used only under the old reservation rule.
            now: The current instant.
            ramp: The ramp limit, if there is one.
            wall: Unix time, for the ramp limit.
        """
        shortage = self._shortage(estimate, max_tokens, now)
        if shortage is not None:
            return shortage
        if ramp is not None:
            exceeded = self._ramp.check(estimate, ramp, wall)
            if exceeded is not None:
                return Shortage(
                    "input_tokens",
                    "ramp",
                    exceeded.current,
                    retry_after_seconds(exceeded.wait),
                    exceeded.following,
                )
            self._ramp.use(estimate)
        if self.requests is not None:
            self.requests.take(1, now)
        if self._window is not None:
            self._window.take(1, now)
        if self.input_tokens is not None:
            self.input_tokens.take(estimate, now)
        # The admission keeps its bucket: the limits may be replaced while the answer is being generated.
        admission = Admission(estimate, self.output_tokens)
        if self._settings.reserve_max_tokens and self.output_tokens is not None:
            admission.reserved = float(max_tokens)
            self.output_tokens.take(admission.reserved, now)
        return admission

    def correct_input(self, admission: Admission, actual: float, now: float) -> None:
        """Replace the estimate by the actual count, as the API does when the answer begins."""
        if self.input_tokens is not None:
            self.input_tokens.take(actual - admission.estimate, now)
        admission.estimate = actual

    def begin_output(self, admission: Admission, tokens: float, seconds: float, now: float) -> None:
        """Take the answer's tokens from the output bucket, evenly over ``seconds``, or at once."""
        if seconds <= _AT_ONCE:
            admission.produced = tokens
            if admission.output is not None and not admission.reserved:
                admission.output.take(tokens, now)
        elif admission.output is None or admission.reserved:
            admission.flow = Flow(tokens, seconds, now)
        else:
            admission.flow = admission.output.begin(tokens, seconds, now)

    def end(self, admission: Admission, now: float) -> float:
        """Settle a request, however it ended. A second call changes nothing.

        Returns:
            The output tokens that were produced.
        """
        if admission.settled:
            return admission.produced
        admission.settled = True
        if admission.flow is not None:
            if admission.output is None or admission.reserved:
                admission.produced = admission.flow.drawn(now)
            else:
                admission.produced = admission.output.end(admission.flow, now)
        if admission.reserved and admission.output is not None:
            admission.output.take(admission.produced - admission.reserved, now)
        return admission.produced

    def give_back(self, admission: Admission, now: float) -> None:
        """Return everything that a failed request took."""
        self.end(admission, now)
        for bucket, amount in (
            (self.requests, 1.0),
            (self._window, 1.0),
            (self.input_tokens, admission.estimate),
        ):
            if bucket is not None:
                bucket.take(-amount, now)
        self._ramp.use(-admission.estimate)

    def _shortage(self, estimate: float, max_tokens: int, now: float) -> Shortage | None:
        reserved = float(max_tokens) if self._settings.reserve_max_tokens else _LEAST_OUTPUT
        worst: Shortage | None = None
        for resource, cause, bucket, need in (
            ("requests", "requests", self.requests, 1.0),
            ("requests", "window", self._window, 1.0),
            ("input_tokens", "input_tokens", self.input_tokens, estimate),
            ("output_tokens", "output_tokens", self.output_tokens, reserved),
        ):
            if bucket is None:
                continue
            wanted = min(need, bucket.capacity) if self._settings.oversized == "when-full" else need
            if bucket.holds(wanted, now):
                continue
            wait = retry_after_seconds(bucket.wait(wanted, now))
            if worst is None or wait > worst.retry_after:
                worst = Shortage(resource, cause, bucket.per_minute, wait)  # type: ignore[arg-type]
        return worst


def _changed(
    bucket: LimitBucket | None, per_minute: int | None, seconds: float, neighbours: float, now: float
) -> LimitBucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        bucket = LimitBucket(per_minute, seconds, now)
    elif bucket.per_minute != per_minute:
        bucket.change(per_minute, seconds, now)
    bucket.level(now)
    bucket.neighbours = neighbours
    return bucket
