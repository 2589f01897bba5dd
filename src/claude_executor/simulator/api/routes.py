"""The paths that need not be fast: models, the organisation's limits, and the owner's own."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_executor.simulator.api.exchange import Exchange
from claude_executor.simulator.messages import errors as refusals
from claude_executor.simulator.messages import headers
from claude_executor.simulator.messages.errors import ErrorResponse, unknown_model
from claude_executor.simulator.organization import as_json
from claude_executor.simulator.world.models import Rates, rates_of

if TYPE_CHECKING:
    from claude_executor.simulator.app import Simulator

LONGEST_PAGE = 1_000
"""Entries that the list of limits gives at a time, at most (documented)."""

_Answer = Callable[[Request], Awaitable[Response]]

# The names of the limiters in the organisation's list are documented, except that its ids look different.
_LIMITERS = (
    ("requests_per_minute", "rpm"),
    ("input_tokens_per_minute_cache_aware", "itpm"),
    ("output_tokens_per_minute", "otpm"),
)


def application(simulator: "Simulator") -> Starlette:
    """Build the application for everything but the two busy endpoints."""
    owner = _Owner(simulator)
    return Starlette(
        routes=[
            Route("/v1/models", owner.models),
            Route("/v1/models/{model}", owner.model),
            Route("/v1/organizations/rate_limits", owner.rate_limits),
            Route("/simulator/faults", owner.set_faults, methods=["POST"]),
            Route("/simulator/stats", owner.stats),
            Route("/simulator/verdict", owner.verdict),
            Route("/simulator/reset", owner.reset, methods=["POST"]),
        ],
        exception_handlers={HTTPException: owner.no_such_path},
    )


class _Owner:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    async def models(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return self._refuse(refusal)
        known = [_model(model) for model in self._simulator.settings.models]
        edges = {"first_id": known[0]["id"], "last_id": known[-1]["id"]} if known else {}
        return self._json({"data": known, "has_more": False, **edges})

    async def model(self, request: Request) -> Response:
        model = request.path_params["model"]
        refusal = self._refusal(request)
        if refusal is None and model not in self._simulator.settings.models:
            refusal = unknown_model(model)
        return self._json(_model(model)) if refusal is None else self._refuse(refusal)

    async def rate_limits(self, request: Request) -> Response:
        refusal = self._refusal(request, admin=True)
        wanted = request.query_params.get("group_type")
        model = request.query_params.get("model")
        entries = [entry for entry in self._entries() if wanted in (None, entry["group"]["type"])]
        if model is not None:
            entries = [entry for entry in entries if model in (entry["models"] or ())]
            if refusal is None and not entries:
                refusal = unknown_model(model)
        page = _page(request)
        if refusal is None and page is None:
            refusal = refusals.invalid_request("limit and page: must be from 1 to 1000, and a cursor")
        if refusal is not None:
            return self._refuse(refusal)
        assert page is not None
        more = f"page_{page.stop}" if page.stop < len(entries) else None
        return self._json({"data": entries[page.start : page.stop], "next_page": more})

    async def set_faults(self, request: Request) -> Response:
        try:
            changes: dict[str, Any] = orjson.loads(await request.body() or b"{}")
            self._simulator.set_faults(**changes)
        except (ValueError, TypeError) as error:
            return self._refuse(refusals.invalid_request(str(error)))
        return self._json({"changed": sorted(changes)})

    async def stats(self, request: Request) -> Response:
        del request
        return self._json(self._simulator.stats())

    async def verdict(self, request: Request) -> Response:
        del request
        return self._json(as_json(self._simulator.verdict()))

    async def reset(self, request: Request) -> Response:
        del request
        self._simulator.reset()
        return self._json({})

    async def no_such_path(self, request: Request, error: Exception) -> Response:
        del request
        status = getattr(error, "status_code", 404)
        return self._refuse(refusals.WRONG_METHOD if status == 405 else refusals.NO_SUCH_PATH)

    def _refusal(self, request: Request, *, admin: bool = False) -> ErrorResponse | None:
        organization = self._simulator.organization
        exchange = Exchange(organization, request.scope, request.receive, _nowhere)
        return exchange.unauthorized(admin=admin)

    def _entries(self) -> list[dict[str, Any]]:
        settings = self._simulator.settings
        changed = self._simulator.faults.rates
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

    def _refuse(self, refusal: ErrorResponse) -> Response:
        number = self._simulator.organization.number()
        request_id = f"req_01{number:022d}"
        body, kind = refusal.body(request_id)
        return self._respond(refusal.status, body, kind, [(b"request-id", request_id.encode())])

    def _respond(self, status: int, body: bytes, kind: bytes, found: list[headers.Header]) -> Response:
        organization = self._simulator.organization
        wall = organization.wall(organization.tick())
        response = Response(body, status, media_type=kind.decode())
        known = {name for name, _ in found}
        own = headers.identity(f"req_01{organization.number():022d}", wall)
        found = found + [header for header in own if header[0] not in known]
        response.raw_headers.extend(found)
        return response


def _page(request: Request) -> range | None:
    """Which of the entries are asked for; `None` if that cannot be told."""
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
