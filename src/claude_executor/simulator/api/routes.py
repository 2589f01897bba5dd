"""The endpoints off the busy path: models, the organization's limits, and the simulator's own controls.

Starlette is imported on first use: asking for help must not wait for it, nor must a test that only sends
messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson

from claude_executor.simulator.api.exchange import Exchange
from claude_executor.simulator.audit.verdict import as_json
from claude_executor.simulator.messages import errors, headers
from claude_executor.simulator.world.models import Rates, rates_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from claude_executor.simulator.audit.verdict import Verdict
    from claude_executor.simulator.messages.errors import ErrorResponse
    from claude_executor.simulator.organization import Organization
    from claude_executor.simulator.world.faults import Faults
    from claude_executor.simulator.world.settings import Settings

LONGEST_PAGE = 1_000
"""The most entries that one page of the list of limits holds (documented)."""

# The names of the limiters in the organization's list are documented. Their real ids look different.
_LIMITERS = (
    ("requests_per_minute", "rpm"),
    ("input_tokens_per_minute_cache_aware", "itpm"),
    ("output_tokens_per_minute", "otpm"),
)


class Owner(Protocol):
    """The simulator as its own endpoints see it: an organization that can be inspected, changed and reset."""

    settings: Settings

    @property
    def organization(self) -> Organization:
        """The live state; ``reset`` replaces it."""
        ...

    @property
    def faults(self) -> Faults:
        """The faults in force now."""
        ...

    def set_faults(self, **changes: Any) -> None:  # noqa: ANN401
        """Change some of the faults from now on."""
        ...

    def stats(self) -> dict[str, Any]:
        """Traffic statistics so far, as JSON values."""
        ...

    def verdict(self) -> Verdict:
        """The verdict on the client so far."""
        ...

    def reset(self) -> None:
        """Start over with full buckets and empty statistics."""
        ...


def application(owner: Owner) -> Starlette:
    """Build the application that serves everything except ``/v1/messages`` and ``/v1/messages/count_tokens``.

    Args:
        owner: The simulator that the endpoints report on and control.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    endpoints = _Endpoints(owner)
    return Starlette(
        routes=[
            Route("/v1/models", endpoints.models),
            Route("/v1/models/{model}", endpoints.model),
            Route("/v1/organizations/rate_limits", endpoints.rate_limits),
            Route("/simulator/faults", endpoints.set_faults, methods=["POST"]),
            Route("/simulator/stats", endpoints.stats),
            Route("/simulator/verdict", endpoints.verdict),
            Route("/simulator/reset", endpoints.reset, methods=["POST"]),
        ],
        exception_handlers={HTTPException: endpoints.no_such_path},
    )


class _Endpoints:
    """The handlers, one for each path."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def models(self, request: Request) -> Response:
        error = self._authentication_error(request)
        if error is not None:
            return self._error(error)
        known = [_model(model) for model in self._owner.settings.models]
        edges = {"first_id": known[0]["id"], "last_id": known[-1]["id"]} if known else {}
        return self._json({"data": known, "has_more": False, **edges})

    async def model(self, request: Request) -> Response:
        model = request.path_params["model"]
        error = self._authentication_error(request)
        if error is None and model not in self._owner.settings.models:
            error = errors.unknown_model(model)
        return self._json(_model(model)) if error is None else self._error(error)

    async def rate_limits(self, request: Request) -> Response:
        error = self._authentication_error(request, admin=True)
        wanted = request.query_params.get("group_type")
        model = request.query_params.get("model")
        entries = [entry for entry in self._entries() if wanted in (None, entry["group"]["type"])]
        if model is not None:
            entries = [entry for entry in entries if model in (entry["models"] or ())]
            if error is None and not entries:
                error = errors.unknown_model(model)
        page = _page(request)
        if error is None and page is None:
            error = errors.invalid_request("limit and page: must be from 1 to 1000, and a cursor")
        if error is not None:
            return self._error(error)
        assert page is not None
        more = f"page_{page.stop}" if page.stop < len(entries) else None
        return self._json({"data": entries[page.start : page.stop], "next_page": more})

    async def set_faults(self, request: Request) -> Response:
        try:
            changes: dict[str, Any] = orjson.loads(await request.body() or b"{}")
            self._owner.set_faults(**changes)
        except (ValueError, TypeError) as error:
            return self._error(errors.invalid_request(str(error)))
        return self._json({"changed": sorted(changes)})

    async def stats(self, request: Request) -> Response:
        del request
        return self._json(self._owner.stats())

    async def verdict(self, request: Request) -> Response:
        del request
        return self._json(as_json(self._owner.verdict()))

    async def reset(self, request: Request) -> Response:
        del request
        self._owner.reset()
        return self._json({})

    async def no_such_path(self, request: Request, error: Exception) -> Response:
        del request
        status = getattr(error, "status_code", 404)
        return self._error(errors.WRONG_METHOD if status == 405 else errors.NO_SUCH_PATH)

    def _authentication_error(self, request: Request, *, admin: bool = False) -> ErrorResponse | None:
        organization = self._owner.organization
        exchange = Exchange(organization, request.scope, request.receive, _nowhere)
        return exchange.authentication_error(admin=admin)

    def _entries(self) -> list[dict[str, Any]]:
        settings = self._owner.settings
        changed = self._owner.faults.rates
        rates = settings.rates if changed is None else changed
        pools: dict[str, list[str]] = {}
        for model, pool in settings.models.items():
            pools.setdefault(pool, []).append(model)
        entries = [
            _entry(f"rl_{pool}", "model_group", _limits(rates_of(pool, rates, settings.models)), pool, models)
            for pool, models in pools.items()
        ]
        if settings.count_tokens_rpm is not None:
            limits = [{"type": "requests_per_minute", "value": settings.count_tokens_rpm}]
            entries.append(_entry("rl_token_count", "token_count", limits))
        return entries

    def _json(self, value: Any) -> Response:  # noqa: ANN401
        return self._respond(200, orjson.dumps(value), b"application/json", [])

    def _error(self, error: ErrorResponse) -> Response:
        number = self._owner.organization.next_number()
        request_id = f"req_01{number:022d}"
        body, kind = error.body(request_id)
        return self._respond(error.status, body, kind, [(b"request-id", request_id.encode())])

    def _respond(self, status: int, body: bytes, kind: bytes, found: list[headers.Header]) -> Response:
        organization = self._owner.organization
        wall = organization.wall(organization.tick())
        from starlette.responses import Response

        response = Response(body, status, media_type=kind.decode())
        known = {name for name, _ in found}
        own = headers.identity(f"req_01{organization.next_number():022d}", wall)
        found = found + [header for header in own if header[0] not in known]
        response.raw_headers.extend(found)
        return response


def _page(request: Request) -> range | None:
    """Return the range of entries asked for; ``None`` if ``page`` or ``limit`` is invalid."""
    try:
        begin = int(request.query_params.get("page", "page_0").removeprefix("page_"))
        most = int(request.query_params.get("limit", LONGEST_PAGE))
    except ValueError:
        return None
    return range(begin, begin + most) if begin >= 0 and 1 <= most <= LONGEST_PAGE else None


async def _nowhere(message: Any) -> None:  # noqa: ANN401
    del message


def _model(model: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
    }


def _limits(rates: Rates) -> list[dict[str, Any]]:
    pairs = ((name, getattr(rates, attribute)) for name, attribute in _LIMITERS)
    return [{"type": name, "value": value} for name, value in pairs if value is not None]


def _entry(
    name: str,
    kind: str,
    limits: list[dict[str, Any]],
    pool: str | None = None,
    models: list[str] | None = None,
) -> dict[str, Any]:
    group = {"type": kind, "id": f"rlg_{name[3:]}"}
    if pool is not None:
        group["display_name"] = f"Claude {pool}"
    return {"type": "rate_limit", "id": name, "group": group, "limits": limits, "models": models}
