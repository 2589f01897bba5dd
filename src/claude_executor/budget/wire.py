"""The JSON form of lease requests and leases, which `share.lua` reads and writes.

The script works resource by resource on sums over all members, so its messages are columns: one table of
amounts for each kind of amount. A value that is missing is zero, false or unknown.
"""

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from claude_executor.core.model.sharing import (
    Closure,
    Lease,
    LeaseRequest,
    Outage,
    PoolUpdates,
    RampAllowance,
    ResourceLease,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

AMOUNTS = {
    "want": "wanted",
    "head": "head",
    "back": "returned",
    "held": "leased",
    "flying": "in_flight",
    "variance": "variance",
    "fix": "correction",
    "terms": "limits",
    "declared": "declared",
}
"""Columns of a request, and the fields of `ResourceLine` that they hold unless these are zero or empty."""
BELIEFS = {"level": "level", "drain": "ceiling"}
"""The same, for fields whose zero says something."""
_COLUMNS = (*AMOUNTS, *BELIEFS)
_values = attrgetter(*AMOUNTS.values(), *BELIEFS.values())
LONGEST_WAIT = 600.0
"""Seconds that an answer may ask a member to wait for the next call."""


def encode_request(request: LeaseRequest, *, member: str, name: str) -> bytes:
    """Return the message in which the `member`, called `name` in listings, makes a request."""
    import orjson

    message: dict[str, object] = {
        "id": member,
        "name": name,
        "seq": request.seq,
        "version": request.version,
        "weight": request.weight,
        "running": request.running,
        "waiting": request.waiting,
        "keep": request.headroom,
    }
    message.update(_columns(request))
    message.update(_updates(request.updates))
    if request.held_by is not None:
        message["binds"] = request.held_by
    if request.max_concurrency is not None:
        message["most"] = request.max_concurrency
    if request.known_members is not None:
        message["members"] = request.known_members
    if request.wants_probe:
        message["probes"] = True
    if request.probing:
        message["probing"] = True
    if request.returning:
        message["returns"] = True
    if request.leaving:
        message["leave"] = True
    return orjson.dumps(message)


def _columns(request: LeaseRequest) -> dict[str, dict[str, object]]:
    columns: dict[str, dict[str, object]] = {}
    for name, line in request.resources.items():
        for column, value in zip(_COLUMNS, _values(line), strict=True):
            if value or (value is not None and column in BELIEFS):
                columns.setdefault(column, {})[name] = value
    return columns


def _updates(updates: PoolUpdates) -> "Iterator[tuple[str, object]]":
    if updates.limits_changed:
        yield "changed", True
    if updates.closure is not None:
        yield "closed", updates.closure.ends_in
        yield "gently", updates.closure.gently
    if updates.outage is not None:
        yield "breaker", "open"
        yield "pause", updates.outage.probe_in
        yield "lasted", updates.outage.lasted_for
    elif updates.recovered:
        yield "breaker", "closed"
    if updates.overloaded:
        yield "cut", True
    if (ramp := updates.ramp) is not None:
        yield "growth", {"allowance": ramp.allowance, "step": ramp.step, "ends": ramp.ends_in}


def decode_lease(answer: bytes) -> Lease:
    """Return the lease that the script has answered with."""
    import orjson

    fields: dict[str, Any] = orjson.loads(answer)
    granted, level, leased = _amounts(fields, "got"), _amounts(fields, "level"), _amounts(fields, "held")
    in_flight, variance, limits = (
        _amounts(fields, "flying"),
        _amounts(fields, "variance"),
        _amounts(fields, "terms"),
    )
    breaker, ramp = fields.get("breaker"), fields.get("growth")
    return Lease(
        version=fields["version"],
        resources={
            name: ResourceLease(
                granted=granted.get(name, 0.0),
                level=level.get(name),
                leased=leased.get(name, 0.0),
                in_flight=in_flight.get(name, 0.0),
                variance=variance.get(name, 0.0),
                limits=limits.get(name) or {},
            )
            for name in {**level, **granted, **leased, **in_flight}
        },
        ask_again_in=max(0.0, min(LONGEST_WAIT, float(fields["again"]))),
        short_of=fields.get("short"),
        may_probe=fields["probe"],
        members=fields["members"],
        share=float(fields["share"]),
        closure=Closure(float(fields["closed"]), fields["gently"]) if fields["closed"] > 0.0 else None,
        outage=Outage(float(breaker["pause"]), float(breaker["lasted"])) if breaker else None,
        overloads=fields["cuts"],
        permits=fields.get("permits"),
        ramp=RampAllowance(ramp["allowance"], ramp["step"], ramp["ends"], ramp["told"]) if ramp else None,
    )


def _amounts(fields: dict[str, Any], column: str) -> dict[str, Any]:
    return fields[column] or {}  # Lua writes an empty table as a list
