"""The control plane's HTTP API: JSON in and out, one handler per thing a person or a program can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from xds_server.alarms import PayloadError
from xds_server.engine import Action, CommandRefusedError, Engine, SpecRefusedError, UnknownRouteError
from xds_server.store import StoreError
from xds_server.telemetry import block_to_json
from xds_server.view import to_json
from xds_server.web.alarms import alarm_routes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from xds_server.spec import Problem

__all__ = ["build"]

_MOST_BYTES: Final = 8 << 20
_ACTIONS: Final = "|".join(action.value for action in Action if action is not Action.PROMOTE_FULL)
_MOST_EVENTS: Final = 10_000
_MOST_BLOCKS: Final = 10_000
_ENGINE: Final = web.AppKey("engine", Engine)
_REGISTRY: Final[web.AppKey[CollectorRegistry]] = web.AppKey("registry")

log = structlog.get_logger()


def build(
    engine: Engine, registry: CollectorRegistry, *, alarm_secret: bytes | None = None
) -> web.Application:
    """Return the application; it holds no state of its own. Senders of alarms share the `alarm_secret`."""
    app = web.Application(client_max_size=_MOST_BYTES, middlewares=[_errors_as_json])
    app[_ENGINE] = engine
    app[_REGISTRY] = registry
    app.add_routes(
        [
            web.get("/v1/routes", _list_routes),
            web.post("/v1/routes", _apply),
            web.get("/v1/routes/{name}", _get_route),
            web.delete("/v1/routes/{name}", _delete_route),
            web.get("/v1/routes/{name}/spec", _get_spec),
            web.get("/v1/routes/{name}/events", _get_events),
            web.get("/v1/routes/{name}/blocks", _get_blocks),
            web.get("/v1/routes/{name}/costs", _get_costs),
            web.get("/v1/audit", _get_audit),
            web.post(f"/v1/routes/{{name}}/{{action:{_ACTIONS}}}", _act),
            *alarm_routes(engine, alarm_secret),
            web.get("/v1/proxies", _proxies),
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz),
            web.get("/metrics", _metrics),
        ]
    )
    return app


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnknownRouteError as error:
        return _error(404, "unknown_route", str(error))
    except CommandRefusedError as error:
        return _error(409, "refused", str(error))
    except PayloadError as error:
        return _error(400, "bad_alarm", str(error))
    except StoreError as error:
        return _error(503, "store_failed", f"nothing was changed: {error}")
    except SpecRefusedError as error:
        return web.json_response({"problems": [_problem(p) for p in error.problems]}, status=422)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _error(error.status, "http", error.text or error.reason)


def _error(status: int, error: str, detail: str) -> web.Response:
    return web.json_response({"error": error, "detail": detail}, status=status)


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "severity": problem.severity.name.lower(),
        "file": problem.file,
        "line": problem.line,
        "col": problem.col,
        "path": problem.path,
        "message": problem.message,
        "allowed": problem.allowed,
    }


def _actor(request: web.Request) -> str:
    return unquote(request.headers.get("x-shiftplane-actor", "")) or f"api@{request.remote}"


async def _list_routes(request: web.Request) -> web.Response:
    return web.json_response({"routes": [to_json(view) for view in request.app[_ENGINE].views()]})


async def _get_route(request: web.Request) -> web.Response:
    return web.json_response(to_json(request.app[_ENGINE].view(request.match_info["name"])))


async def _get_spec(request: web.Request) -> web.Response:
    return web.Response(text=request.app[_ENGINE].spec_text(request.match_info["name"]))


async def _get_events(request: web.Request) -> web.Response:
    events = await request.app[_ENGINE].events(request.match_info["name"], _limit(request))
    return web.json_response({"events": [to_json(event) for event in events]})


async def _get_costs(request: web.Request) -> web.Response:
    return web.json_response({"days": await request.app[_ENGINE].costs(request.match_info["name"])})


async def _get_blocks(request: web.Request) -> web.Response:
    """Answer with one block a line, each with the run it is of."""
    found = await request.app[_ENGINE].blocks(request.match_info["name"], _MOST_BLOCKS)
    lines = (json.dumps({"run": run, **block_to_json(block)}) for run, block in found)
    return web.Response(text="".join(f"{line}\n" for line in lines), content_type="application/x-ndjson")


async def _get_audit(request: web.Request) -> web.Response:
    actions = await request.app[_ENGINE].audit(_limit(request), request.query.get("route"))
    return web.json_response({"actions": [to_json(action) for action in actions]})


def _limit(request: web.Request) -> int:
    limit = request.query.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_EVENTS:
        raise web.HTTPBadRequest(
            text=f"limit is {limit!r}; a whole number from 1 to {_MOST_EVENTS} is allowed"
        )
    return int(limit)


async def _apply(request: web.Request) -> web.Response:
    try:
        text = (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise web.HTTPBadRequest(text=f"the body is not UTF-8 text (byte {error.start})") from error
    applied = await request.app[_ENGINE].apply(
        text,
        file=unquote(request.headers.get("x-shiftplane-file", "")) or "<api>",
        actor=_actor(request),
        reason=unquote(request.headers.get("x-shiftplane-reason", "")),
        dry_run=request.query.get("dryRun") == "true",
    )
    return web.json_response(
        {
            "applied": [
                {"name": item.name, "action": item.action, "generation": item.generation}
                for item in applied.routes
            ],
            "warnings": [_problem(problem) for problem in applied.warnings],
        }
    )


async def _delete_route(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await request.app[_ENGINE].delete(name, actor=_actor(request))
    return web.json_response({"deleted": name})


async def _act(request: web.Request) -> web.Response:
    body = await _json_object(request)
    action, full, generation = Action(request.match_info["action"]), body.get("full", False), body.get("to")
    if not isinstance(full, bool):
        raise web.HTTPBadRequest(text="full must be true or false")
    if generation is not None and (isinstance(generation, bool) or not isinstance(generation, int)):
        raise web.HTTPBadRequest(text="to must be the number of a generation")
    engine, name = request.app[_ENGINE], request.match_info["name"]
    why = {"actor": str(body.get("actor") or _actor(request)), "reason": str(body.get("reason") or "")}
    if action is Action.UNDO and generation is not None:
        view = await engine.undo_to(name, generation, **why)
    else:
        wanted = Action.PROMOTE_FULL if action is Action.PROMOTE and full else action
        view = await engine.command(name, wanted, **why)
    return web.json_response(to_json(view))


async def _json_object(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text='the body must be a JSON object such as {"reason": "…"}')
    return body


async def _proxies(request: web.Request) -> web.Response:
    return web.json_response({"proxies": [to_json(view) for view in request.app[_ENGINE].proxies()]})


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _readyz(request: web.Request) -> web.Response:
    ready = request.app[_ENGINE].ready
    return web.json_response({"ready": ready}, status=200 if ready else 503)


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[_REGISTRY])
    return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})
