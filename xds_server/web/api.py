"""The control plane's HTTP API about routes: one handler per thing a person or a program can do."""

from __future__ import annotations

import asyncio
import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from xds_server.access.identity import Role
from xds_server.engine import Action, Caller, SpecPrecondition
from xds_server.view import to_json
from xds_server.web import schemas
from xds_server.web.authenticator import PRINCIPAL, caller, header_text, need, need_somewhere
from xds_server.web.operations import Answer, Operation, Parameter, number
from xds_server.web.problems import ProblemError, read_json, spec_problem
from xds_server.web.schemas import paged
from xds_server.web.shapes import CommandBody, PromoteBody, UndoBody
from xds_server.web.visible import visible_proxies, visible_routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.access.audit import Entry
    from xds_server.engine import ApplyResult, Engine
    from xds_server.view import RouteView

__all__ = ["proxies", "routes"]

_MOST: Final = 10_000
_TAIL: Final = 50
"""Lines that one event of history has at the most."""

_ABOUT: Final = {
    Action.PROMOTE: "Go on to the next step, or with full to the last weight.",
    Action.PAUSE: "Stop the clock where it stands.",
    Action.RESUME: "Let the clock go on with the time that was left.",
    Action.ABORT: "Take the candidate's weight and its shadow back to zero at once.",
    Action.UNDO: "Take back what a rollout did; with to, accept an earlier spec once more.",
    Action.RETRY: "Begin a rollout that was taken back anew.",
    Action.KILL: "Have one backend serve everyone, at once. Needs a reason.",
    Action.UNKILL: "Take a kill back.",
}
_BODIES: Final[dict[Action, type[CommandBody]]] = {Action.PROMOTE: PromoteBody, Action.UNDO: UndoBody}
_TAGS: Final = re.compile(r'\*|(?:W/)?"(?P<tag>[0-9]+-[0-9a-f]{12})"')
_YAML: Final = {"application/yaml": {"type": "string", "description": "ModelRoute documents."}}
_DRY: Final = Parameter(
    name="dryRun",
    about="Check it, and change nothing.",
    schema={"type": "string", "enum": ["true", "false"], "default": "false"},
)
_KEY: Final = Parameter(
    name="Idempotency-Key",
    about="A command sent again with the same key is done once.",
    schema={"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"},
    header=True,
)
_MATCH: Final = Parameter(
    name="If-Match",
    about="Only while the spec has this tag, or * for any.",
    schema={"type": "string", "pattern": '^(\\*|"[0-9]+-[0-9a-f]{12}")$'},
    header=True,
)
_AFTER: Final = (
    Parameter(
        name="limit",
        about="How many at the most.",
        schema={"type": "integer", "minimum": 1, "maximum": _MOST},
    ),
    Parameter(name="after", about="Go on after this: `next` of the page before.", schema={"type": "string"}),
)


def routes(engine: Engine) -> list[Operation]:
    """Return what can be asked about routes."""
    desk = _Routes(engine)
    return [*_reading(desk), *_specs(desk), *(_command(desk, action) for action in _ABOUT)]


def proxies(engine: Engine) -> list[Operation]:
    """Return what can be asked about proxies."""

    async def connected(request: web.Request) -> web.Response:
        caller(request, Role.VIEWER)
        found = visible_proxies(engine, request[PRINCIPAL], request.query.get("group", ""))
        page, following = _page([(view.id, to_json(view)) for view in found], request)
        return web.json_response({"proxies": page, "next": following})

    return [
        Operation(
            method="GET",
            path="/v1/proxies",
            name="listProxies",
            about="List connected proxies and what they hold.",
            role=Role.VIEWER,
            handler=connected,
            parameters=(
                Parameter(name="group", about="Of this group only.", schema={"type": "string"}),
                *_AFTER,
            ),
            answer=Answer(about="Connected proxies.", schema=schemas.PROXY_PAGE),
        )
    ]


def _reading(desk: _Routes) -> Iterable[Operation]:
    yield Operation(
        method="GET",
        path="/v1/routes",
        name="listRoutes",
        about="List routes.",
        role=Role.VIEWER,
        handler=desk.all,
        parameters=_AFTER,
        answer=Answer(about="Routes by name.", schema=schemas.ROUTE_PAGE),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}",
        name="getRoute",
        about="Say how a route stands.",
        role=Role.VIEWER,
        handler=desk.one,
        answer=Answer(about="The route.", schema=schemas.ROUTE),
        refusals=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/spec",
        name="getSpec",
        about="Return the accepted spec, and its tag.",
        role=Role.VIEWER,
        handler=desk.spec,
        answer=Answer(about="The spec.", content_type="application/yaml", headers=("ETag",)),
        refusals=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/events",
        name="listEvents",
        about="Say what happened to a route; oldest first, the newest page first.",
        role=Role.VIEWER,
        handler=desk.events,
        parameters=paged(_MOST),
        answer=Answer(about="A page of its history.", schema=schemas.EVENT_PAGE),
        refusals=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/blocks",
        name="listBlocks",
        about="Return what was counted, block by block, with the run it is of.",
        role=Role.VIEWER,
        handler=desk.blocks,
        answer=Answer(about="One JSON object a line.", content_type="application/x-ndjson"),
        refusals=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/routes/{name}/costs",
        name="listCosts",
        about="Say what each backend took and cost, by day.",
        role=Role.VIEWER,
        handler=desk.costs,
        answer=Answer(about="Days, oldest first.", schema=schemas.COST_PAGE),
        refusals=(404,),
    )


def _specs(desk: _Routes) -> Iterable[Operation]:
    yield Operation(
        method="POST",
        path="/v1/routes",
        name="apply",
        about="Accept the routes of a file, all of them or none.",
        role=Role.OPERATOR,
        handler=desk.apply,
        parameters=(_DRY, _KEY),
        body=_YAML,
        answer=Answer(about="What became of them.", schema=schemas.APPLIED),
        refusals=(422,),
    )
    yield Operation(
        method="PUT",
        path="/v1/routes/{name}/spec",
        name="putSpec",
        about="Accept the spec of one route, if it is still the one it should be.",
        role=Role.OPERATOR,
        handler=desk.put,
        parameters=(_DRY, _KEY, _MATCH),
        body=_YAML,
        answer=Answer(about="What became of it.", schema=schemas.APPLIED, headers=("ETag",)),
        refusals=(409, 412, 422),
    )
    yield Operation(
        method="DELETE",
        path="/v1/routes/{name}",
        name="deleteRoute",
        about="Forget a route; its proxies answer 404 for it afterwards.",
        role=Role.ADMIN,
        handler=desk.delete,
        parameters=(_MATCH,),
        answer=Answer(about="It is gone.", schema=schemas.DELETED),
        refusals=(404, 412),
    )


def _command(desk: _Routes, action: Action) -> Operation:
    async def handler(request: web.Request) -> web.Response:
        return await desk.command(request, action)

    return Operation(
        method="POST",
        path=f"/v1/routes/{{name}}/{action.value}",
        name=action.value,
        about=_ABOUT[action],
        role=Role.OPERATOR,
        handler=handler,
        parameters=(_KEY,),
        body={"application/json": _BODIES.get(action, CommandBody).model_json_schema()},
        answer=Answer(about="How the route stands then.", schema=schemas.ROUTE),
        refusals=(404, 409, 422),
    )


class _Routes:
    """The handlers; they hold no state but the order of requests with the same key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keyed = asyncio.Lock()

    async def all(self, request: web.Request) -> web.Response:
        caller(request, Role.VIEWER)
        seen = visible_routes(self._engine, request[PRINCIPAL])
        page, following = _page([(view.name, to_json(view)) for view in seen], request)
        return web.json_response({"routes": page, "next": following})

    async def one(self, request: web.Request) -> web.Response:
        return web.json_response(to_json(self._engine.queries.view(await self._seen(request))))

    async def spec(self, request: web.Request) -> web.Response:
        name = await self._seen(request)
        tag = {"etag": f'"{self._engine.queries.spec_tag(name)}"'}
        return web.Response(
            text=self._engine.queries.spec_text(name), content_type="application/yaml", headers=tag
        )

    async def events(self, request: web.Request) -> web.Response:
        name, limit = await self._seen(request), number(request, "limit", default=100, most=_MOST) or 100
        before = number(request, "before", default=None)
        whole = request[PRINCIPAL].may_everywhere(Role.VIEWER)
        found = await self._engine.queries.events(name, limit + _TAIL, before, whole=whole)
        # An event has several lines, and a page none of them in part.
        newest = found[-limit:]
        page = [event for event in found if newest and event.seq >= newest[0].seq]
        following = page[0].seq if len(page) < len(found) else None
        told = await self._engine.queries.in_thread(lambda: [to_json(event) for event in page])
        return web.json_response({"events": told, "next": following})

    async def blocks(self, request: web.Request) -> web.Response:
        lines = await self._engine.queries.blocks(await self._seen(request), _MOST)
        return web.Response(body=lines, content_type="application/x-ndjson", charset="utf-8")

    async def costs(self, request: web.Request) -> web.Response:
        return web.json_response({"days": await self._engine.queries.costs(await self._seen(request))})

    async def apply(self, request: web.Request) -> web.Response:
        return await self._applied(request, None)

    async def put(self, request: web.Request) -> web.Response:
        return await self._applied(
            request, SpecPrecondition(name=request.match_info["name"], tag=_tag(request))
        )

    async def _applied(self, request: web.Request, only: SpecPrecondition | None) -> web.Response:
        """Apply a spec, of one route `only` where that is said; once, however often it is sent with a key."""
        name = () if only is None else (only.name,)
        await need_somewhere(request, self._engine, Role.OPERATOR, "apply", *name)
        text, file, dry = await _text(request), _file(request), request.query.get("dryRun") == "true"
        by = _by(request, text)
        before: tuple[Entry, ...] = ()
        if dry or not by.key:
            done = await self._engine.routes.apply(text, file=file, by=by, dry_run=dry, only=only)
            answer = _applied(done)
        else:
            async with self._keyed:
                before = await self._before(by)
                if before:
                    answer = _told_again(before)
                else:
                    answer = _applied(await self._engine.routes.apply(text, file=file, by=by, only=only))
        headers = {"idempotent-replayed": "true"} if before else {}
        if only is not None and not dry:
            headers["etag"] = f'"{self._engine.queries.spec_tag(only.name)}"'
        return web.json_response(answer, headers=headers or None)

    async def _before(self, by: Caller) -> tuple[Entry, ...]:
        """Return what this caller did under the key of its request.

        Raises:
            ProblemError: It stands for another request.
        """
        found = await self._engine.queries.done_before(by)
        if any(entry.deed.digest != by.digest for entry in found):
            raise ProblemError(422, "key_reused", f"Idempotency-Key {by.key!r} stands for another request")
        return found

    async def delete(self, request: web.Request) -> web.Response:
        name, tag = request.match_info["name"], _tag(request)
        await self._engine.routes.delete(
            name, by=caller(request, Role.ADMIN, reason=_reason(request)), tag=tag
        )
        return web.json_response({"deleted": name})

    async def command(self, request: web.Request, action: Action) -> web.Response:
        name, body = request.match_info["name"], await read_json(request, _BODIES.get(action, CommandBody))
        asked = _digest(request, body.model_dump_json())
        by = caller(request, Role.OPERATOR, reason=body.reason, asked=asked, said=body.actor)
        if not by.key:
            return web.json_response(to_json(await self._do(name, action, body, by)))
        async with self._keyed:
            before = await self._before(by)
            if before:
                # What was allowed then need not be any more, and the answer says how the route stands.
                await need(request, self._engine, Role.OPERATOR, name, action.value)
            view = self._engine.queries.view(name) if before else await self._do(name, action, body, by)
        headers = {"idempotent-replayed": "true"} if before else None
        return web.json_response(to_json(view), headers=headers)

    async def _do(self, name: str, action: Action, body: CommandBody, by: Caller) -> RouteView:
        if isinstance(body, UndoBody) and body.to is not None:
            return await self._engine.routes.undo_to(name, body.to, by=by)
        full = isinstance(body, PromoteBody) and body.full
        return await self._engine.routes.command(name, Action.PROMOTE_FULL if full else action, by=by)

    async def _seen(self, request: web.Request) -> str:
        """Return the name of a route that whoever asks may see."""
        name = request.match_info["name"]
        await need(request, self._engine, Role.VIEWER, name, "see")
        return name


def _page(
    items: list[tuple[str, dict[str, Any]]], request: web.Request
) -> tuple[list[dict[str, Any]], str | None]:
    """Return so many of what comes after a name, and after which name the rest comes."""
    limit, after = (
        number(request, "limit", default=_MOST, most=_MOST) or _MOST,
        request.query.get("after", ""),
    )
    found = [(name, item) for name, item in sorted(items, key=lambda one: one[0]) if name > after]
    page = found[:limit]
    return [item for _, item in page], page[-1][0] if len(found) > limit else None


def _applied(applied: ApplyResult) -> dict[str, Any]:
    return {
        "applied": [
            {"name": item.name, "action": item.action, "generation": item.generation}
            for item in applied.routes
        ],
        "warnings": [spec_problem(problem) for problem in applied.warnings],
    }


def _told_again(before: Iterable[Entry]) -> dict[str, Any]:
    """Return what an application answers that was done before: what became of its routes then."""
    told = []
    for entry in before:
        after = json.loads(entry.deed.after or "{}")
        action = "updated" if entry.deed.before else "created"
        told.append({"name": entry.deed.route, "action": action, "generation": after.get("generation", 0)})
    return {"applied": told, "warnings": []}


async def _text(request: web.Request) -> str:
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise ProblemError(400, "bad_request", f"the body is not UTF-8 text (byte {error.start})") from error


def _file(request: web.Request) -> str:
    return header_text(request, "x-shiftplane-file") or "<api>"


def _reason(request: web.Request) -> str:
    return header_text(request, "x-shiftplane-reason")


def _by(request: web.Request, text: str) -> Caller:
    return caller(request, Role.OPERATOR, reason=_reason(request), asked=_digest(request, text))


def _digest(request: web.Request, body: str) -> str:
    return sha256(f"{request.method} {request.path_qs}\n{body}".encode()).hexdigest()


def _tag(request: web.Request) -> str | None:
    text = request.headers.get("if-match")
    if text is None:
        return None
    found = _TAGS.fullmatch(text.strip())
    if found is None:
        raise ProblemError(
            400, "bad_request", 'If-Match: * or one tag as GET …/spec gives it is allowed, in ""'
        )
    return found["tag"] or "*"
