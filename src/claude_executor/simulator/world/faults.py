"""Faults of the simulated API, and their schedule.

``Faults`` is a frozen value. ``Simulator.set_faults``, ``POST /simulator/faults`` and the schedule replace
it; they never change it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from claude_executor.simulator.world.json_values import Json, is_object
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.ramp import Ramp


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Neighbours in the organization, as the constant fraction of each limit that they use, below 1.

    Attributes:
        requests: Fraction of the requests per minute.
        input_tokens: Fraction of the input tokens per minute.
        output_tokens: Fraction of the output tokens per minute.
    """

    requests: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    def __post_init__(self) -> None:
        for name in ("requests", "input_tokens", "output_tokens"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"neighbours' {name} must be a fraction from 0 to below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults to inject. Everything is off by default.

    The first group are probabilities per admitted request, from 0 to 1.

    Attributes:
        error_500: 500 ``api_error``.
        error_502: 502 ``api_error``.
        error_502_html: 502 with an HTML page from a proxy instead of JSON.
        error_503: 503 ``api_error``.
        error_504: 504 ``timeout_error``.
        overloaded: 529 ``overloaded_error``, without ``retry-after``.
        rate_limited_plain: 429 whose message does not mention rate limits, without rate-limit headers.
        reset: The connection is reset before any answer.
        stale_keepalive: The connection is reset before any answer, but only if it was used before.
        garbage: A 200 whose JSON body is cut in half.
        slow_first_byte: The first byte comes ``slow_first_byte_seconds`` later than it would.
        stream_overloaded: ``event: error`` with ``overloaded_error`` in the middle of a stream.
        stream_rate_limited: ``event: error`` with ``rate_limit_error`` in the middle of a stream.
        stream_dropped: The connection breaks in the middle of a stream: reset or closed, with equal chance.
        stream_cut: The stream ends cleanly, but without ``message_stop``.
        stream_stalled: The stream pauses for an hour in the middle.
        slow_first_byte_seconds: Delay of a slow first byte, in seconds.

        outage: Seconds, from the moment this is set, during which every request gets a 529; ``inf`` lasts
            until it is set to 0.
        outage_retry_after: The ``retry-after`` of those 529s, in seconds; ``None`` sends none, as the API
            usually does.
        outage_pools: The pools that are out of service; empty means all.
        unreachable: Seconds, from the moment this is set, during which every connection is refused (over real
            sockets: reset on first use); ``inf`` lasts until it is set to 0.
        spend_cap: Every request gets the 429 of a tier's spend cap: ``enforced_spend_limit_reached``, without
            ``retry-after``.
        contract_spend: Every request gets the 429 of a contract's spend cap:
            ``contract_spend_limit_reached``.
        spend_limit_400: Every request gets the 400 of a spend limit that the organization set itself.
        credit_400: Every request gets the 400 of an empty prepaid balance.
        invalid_key: Every request gets a 401.
        billing_402: Every request gets a 402.
        permission_403: Every request gets a 403.

        neighbours: Other users of the organization.
        rates: Limits that replace those of the settings while this is set.
        ramp: The ramp limit; ``None`` for none.
    """

    error_500: float = 0.0
    error_502: float = 0.0
    error_502_html: float = 0.0
    error_503: float = 0.0
    error_504: float = 0.0
    overloaded: float = 0.0
    rate_limited_plain: float = 0.0
    reset: float = 0.0
    stale_keepalive: float = 0.0
    garbage: float = 0.0
    slow_first_byte: float = 0.0
    stream_overloaded: float = 0.0
    stream_rate_limited: float = 0.0
    stream_dropped: float = 0.0
    stream_cut: float = 0.0
    stream_stalled: float = 0.0
    slow_first_byte_seconds: float = 30.0

    outage: float = 0.0
    outage_retry_after: int | None = None
    outage_pools: tuple[str, ...] = ()
    unreachable: float = 0.0
    spend_cap: bool = False
    contract_spend: bool = False
    spend_limit_400: bool = False
    credit_400: bool = False
    invalid_key: bool = False
    billing_402: bool = False
    permission_403: bool = False

    neighbours: Neighbours = Neighbours()
    rates: Rates | Mapping[str, Rates] | None = None
    ramp: Ramp | None = None

    def __post_init__(self) -> None:
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability from 0 to 1")
        for name in SPANS:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a span of seconds and must not be negative")

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return the same faults with some fields changed.

        Args:
            changes: New values by name, as Python objects or as JSON has them (``true`` for a span without
                end, objects for ``rates``, ``ramp`` and ``neighbours``).

        Raises:
            ValueError: A name is unknown or a value is out of range.
        """
        unknown = set(changes) - {field.name for field in fields(self)}
        if unknown:
            known = ", ".join(field.name for field in fields(self))
            raise ValueError(f"unknown fault: {', '.join(sorted(unknown))}; known faults: {known}")
        try:
            return replace(self, **{name: _read(name, value) for name, value in changes.items()})
        except TypeError as error:
            raise ValueError(str(error)) from error


PROBABILITIES: tuple[str, ...] = (
    "error_500",
    "error_502",
    "error_502_html",
    "error_503",
    "error_504",
    "overloaded",
    "rate_limited_plain",
    "reset",
    "stale_keepalive",
    "garbage",
    "slow_first_byte",
    "stream_overloaded",
    "stream_rate_limited",
    "stream_dropped",
    "stream_cut",
    "stream_stalled",
)
"""The faults that hit single requests at random."""

SPANS: tuple[str, ...] = ("outage", "unreachable")
"""The faults that begin when they are set and last for a number of seconds."""

SWITCHES: tuple[str, ...] = (
    "spend_cap",
    "contract_spend",
    "spend_limit_400",
    "credit_400",
    "invalid_key",
    "billing_402",
    "permission_403",
)
"""The faults that hit every request while they are on."""

_RATE_NAMES = frozenset({"rpm", "itpm", "otpm"})


def _read_span(value: Json) -> float:
    if isinstance(value, bool):
        return math.inf if value else 0.0
    return float(value)


def _read_rates(value: Json) -> Rates | Mapping[str, Rates] | None:
    if value is None or isinstance(value, Rates):
        return value
    if set(value) <= _RATE_NAMES:
        return Rates(**value)
    return {name: rates if isinstance(rates, Rates) else Rates(**rates) for name, rates in value.items()}


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "outage": _read_span,
    "unreachable": _read_span,
    "outage_pools": tuple,
    "rates": _read_rates,
    "neighbours": lambda value: Neighbours(**value) if is_object(value) else value,
    "ramp": lambda value: Ramp(**value) if is_object(value) else value,
}


def _read(name: str, value: Json) -> Json:
    reader = _READERS.get(name)
    return value if reader is None else reader(value)


Change = Faults | Mapping[str, Any]
"""A complete new set of faults, or a mapping of only the fields that change."""


class FaultSchedule:
    """The faults in force, and the schedule of their changes.

    Args:
        faults: The faults at the start.
        schedule: Pairs of seconds after ``started_at`` and the change to make then, in any order.
        started_at: The instant from which the schedule counts.
    """

    def __init__(self, faults: Faults, schedule: Iterable[tuple[float, Change]], started_at: float) -> None:
        self._faults = faults
        self._since = dict.fromkeys(SPANS, started_at)
        self._due = sorted(
            ((started_at + after, change) for after, change in schedule), key=lambda pair: pair[0]
        )

    def advance(self, now: float) -> float | None:
        """Apply the next due change and return its instant; ``None`` if none is due. Call until ``None``."""
        if not self._due or self._due[0][0] > now:
            return None
        at, change = self._due.pop(0)
        self.set(change, at)
        return at

    def next_at(self, now: float) -> float:
        """Return the next instant after ``now`` at which a change is due or a span ends."""
        due = self._due[0][0] if self._due else math.inf
        return min([due, *(end for span in SPANS if (end := self._end(span)) > now)])

    def set(self, change: Change, now: float) -> None:
        """Change the faults at ``now``."""
        if isinstance(change, Faults):
            self._faults, self._since = change, dict.fromkeys(SPANS, now)
            return
        self._faults = self._faults.changed(change)
        self._since.update((name, now) for name in SPANS if name in change)

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self._faults

    def is_on(self, span: str, now: float) -> bool:
        """Whether the span, ``outage`` (of at least some pools) or ``unreachable``, is on."""
        return now < self._end(span)

    def _end(self, span: str) -> float:
        return self._since[span] + float(getattr(self._faults, span))
