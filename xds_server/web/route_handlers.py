"""The handlers of the API operations for routes."""

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
from xds_server.web.authenticator import (
    PRINCIPAL,
    header_text,
    require_role,
    require_role_somewhere,
    to_caller,
)
from xds_server.web.bodies import CommandBody, PromoteBody, UndoBody
from xds_server.web.operations import query_number
from xds_server.web.problems import ProblemError, read_json, spec_problem
from xds_server.web.visibility import visible_routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.access.audit import Entry
    from xds_server.engine import ApplyResult, Engine
    from xds_server.view import RouteView

__all__ = ["COMMAND_BODIES", "MAX_LIMIT", "RouteHandlers", "page_by_name"]

MAX_LIMIT: Final = 10_000
_MAX_RECORDS_PER_EVENT: Final = 50

COMMAND_BODIES: Final[dict[Action, type[CommandBody]]] = {
    Action.PROMOTE: PromoteBody,
    Action.UNDO: UndoBody,
}
_IF_MATCH: Final = re.compile(r'\*|(?:W/)?"(?P<tag>[0-9]+-[0-9a-f]{12})"')


class RouteHandlers:
    """The handlers for routes; their only state is a lock that serializes requests with idempotency keys."""

    def __init__(self, engine: Engine) -> None:
        """Create handlers that call `engine`."""
        self._engine = engine
        self._idempotency_lock = asyncio.Lock()

    async def list_routes(self, request: web.Request) -> web.Response:
        """Return the routes that the caller may view."""
        to_caller(request, Role.VIEWER)  # Rejects requests that are not authenticated.
        visible = visible_routes(self._engine, request[PRINCIPAL])
        page, following = page_by_name([(view.name, to_json(view)) for view in visible], request)
        return web.json_response({"routes": page, "next": following})

    async def get_route(self, request: web.Request) -> web.Response:
        """Return the state of a route."""
        return web.json_response(to_json(self._engine.queries.view(await self._visible_name(request))))

    async def get_spec(self, request: web.Request) -> web.Response:
        """Return the accepted spec of a route, with its entity tag."""
        name = await self._visible_name(request)
        tag = {"etag": f'"{self._engine.queries.spec_tag(name)}"'}
        return web.Response(
            text=self._engine.queries.spec_text(name), content_type="application/yaml", headers=tag
        )

    async def list_events(self, request: web.Request) -> web.Response:
        """Return a page of a route's history."""
        name = await self._visible_name(request)
        limit = query_number(request, "limit", default=100, maximum=MAX_LIMIT) or 100
        before = query_number(request, "before", default=None)
        whole = request[PRINCIPAL].may_everywhere(Role.VIEWER)
        found = await self._engine.queries.events(name, limit + _MAX_RECORDS_PER_EVENT, before, whole=whole)
        # The records of one event have the same `seq`; a page contains either all or none of them.
        newest = found[-limit:]
        page = [event for event in found if newest and event.seq >= newest[0].seq]
        following = page[0].seq if len(page) < len(found) else None
        events = await self._engine.queries.in_thread(lambda: [to_json(event) for event in page])
        return web.json_response({"events": events, "next": following})

    async def list_blocks(self, request: web.Request) -> web.Response:
        """Return the newest blocks of counts of a route."""
        lines = await self._engine.queries.blocks(await self._visible_name(request), MAX_LIMIT)
        return web.Response(body=lines, content_type="application/x-ndjson", charset="utf-8")

    async def list_costs(self, request: web.Request) -> web.Response:
        """Return the daily usage and cost of a route's backends."""
        return web.json_response(
            {"days": await self._engine.queries.costs(await self._visible_name(request))}
        )

    async def apply(self, request: web.Request) -> web.Response:
        """Apply the specs of a file."""
        return await self._apply(request, None)

    async def put_spec(self, request: web.Request) -> web.Response:
        """Apply the spec of one route if its current spec matches the precondition."""
        return await self._apply(
            request, SpecPrecondition(name=request.match_info["name"], tag=_if_match(request))
        )

    async def _apply(self, request: web.Request, only: SpecPrecondition | None) -> web.Response:
        """Apply specs, or only that of one route; with an idempotency key used before, apply nothing."""
        name = () if only is None else (only.name,)
        await require_role_somewhere(request, self._engine, Role.OPERATOR, "apply", *name)
        text, file, dry = await _body_text(request), _file(request), request.query.get("dryRun") == "true"
        by = to_caller(request, Role.OPERATOR, reason=_reason(request), digest=_content_digest(request, text))
        earlier: tuple[Entry, ...] = ()
        if dry or not by.key:
            result = await self._engine.routes.apply(text, file=file, by=by, dry_run=dry, only=only)
            response = _apply_response(result)
        else:
            async with self._idempotency_lock:
                earlier = await self._entries_of_key(by)
                if earlier:
                    response = _replayed_apply_response(earlier)
                else:
                    response = _apply_response(
                        await self._engine.routes.apply(text, file=file, by=by, only=only)
                    )
        headers = {"idempotent-replayed": "true"} if earlier else {}
        if only is not None and not dry:
            headers["etag"] = f'"{self._engine.queries.spec_tag(only.name)}"'
        return web.json_response(response, headers=headers or None)

    async def _entries_of_key(self, by: Caller) -> tuple[Entry, ...]:
        """Return the audit entries of an earlier request of this caller with the same idempotency key.

        Raises:
            ProblemError: The earlier request had a different content.
        """
        found = await self._engine.queries.done_before(by)
        if any(entry.event.digest != by.digest for entry in found):
            raise ProblemError(
                422,
                "key_reused",
                f"Idempotency-Key {by.key!r} was used for another request; use a new key",
            )
        return found

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a route."""
        name, tag = request.match_info["name"], _if_match(request)
        await self._engine.routes.delete(
            name, by=to_caller(request, Role.ADMIN, reason=_reason(request)), tag=tag
        )
        return web.json_response({"deleted": name})

    async def command(self, request: web.Request, action: Action) -> web.Response:
        """Run an operator command; with an idempotency key used before, only return the route."""
        name = request.match_info["name"]
        body = await read_json(request, COMMAND_BODIES.get(action, CommandBody))
        digest = _content_digest(request, body.model_dump_json())
        by = to_caller(request, Role.OPERATOR, reason=body.reason, digest=digest, reported_user=body.actor)
        if not by.key:
            return web.json_response(to_json(await self._run(name, action, body, by)))
        async with self._idempotency_lock:
            earlier = await self._entries_of_key(by)
            if earlier:
                # The response shows the route, and the caller may have lost the role since the first request.
                await require_role(request, self._engine, Role.OPERATOR, name, action.value)
            view = self._engine.queries.view(name) if earlier else await self._run(name, action, body, by)
        headers = {"idempotent-replayed": "true"} if earlier else None
        return web.json_response(to_json(view), headers=headers)

    async def _run(self, name: str, action: Action, body: CommandBody, by: Caller) -> RouteView:
        if isinstance(body, UndoBody) and body.to is not None:
            return await self._engine.routes.undo_to(name, body.to, by=by)
        full = isinstance(body, PromoteBody) and body.full
        return await self._engine.routes.command(name, Action.PROMOTE_FULL if full else action, by=by)

    async def _visible_name(self, request: web.Request) -> str:
        """Return the route name in the path, and require that the caller may view the route."""
        name = request.match_info["name"]
        await require_role(request, self._engine, Role.VIEWER, name, "see")
        return name


def page_by_name(
    items: list[tuple[str, dict[str, Any]]], request: web.Request
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the page of items that the query selects, and the value of `after` for the next page.

    The value is None on the last page.
    """
    limit = query_number(request, "limit", default=MAX_LIMIT, maximum=MAX_LIMIT) or MAX_LIMIT
    after = request.query.get("after", "")
    found = [(name, item) for name, item in sorted(items, key=lambda pair: pair[0]) if name > after]
    page = found[:limit]
    return [item for _, item in page], page[-1][0] if len(found) > limit else None


def _apply_response(result: ApplyResult) -> dict[str, Any]:
    return {
        "applied": [
            {"name": item.name, "action": item.action, "generation": item.generation}
            for item in result.routes
        ],
        "warnings": [spec_problem(problem) for problem in result.warnings],
    }


def _replayed_apply_response(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the response of an earlier apply, rebuilt from its audit entries, which contain no warnings."""
    applied = []
    for entry in entries:
        after = json.loads(entry.event.after or "{}")
        action = "updated" if entry.event.before else "created"
        applied.append(
            {"name": entry.event.route, "action": action, "generation": after.get("generation", 0)}
        )
    return {"applied": applied, "warnings": []}


async def _body_text(request: web.Request) -> str:
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise ProblemError(
            400, "bad_request", f"the body is not UTF-8 text: invalid byte at offset {error.start}"
        ) from error


def _file(request: web.Request) -> str:
    return header_text(request, "x-shiftplane-file") or "<api>"


def _reason(request: web.Request) -> str:
    return header_text(request, "x-shiftplane-reason")


def _content_digest(request: web.Request, body: str) -> str:
    return sha256(f"{request.method} {request.path_qs}\n{body}".encode()).hexdigest()


def _if_match(request: web.Request) -> str | None:
    text = request.headers.get("if-match")
    if text is None:
        return None
    found = _IF_MATCH.fullmatch(text.strip())
    if found is None:
        raise ProblemError(
            400,
            "bad_request",
            f"If-Match is {text[:80]!r}; allowed: * or one quoted tag, as in the ETag of GET …/spec",
        )
    return found["tag"] or "*"
