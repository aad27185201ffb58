"""Tokens and the audit over HTTP."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from xds_server.access.audit import entry_to_json, parse_checkpoint
from xds_server.access.identity import Role, new_token, token_to_json
from xds_server.store import soon
from xds_server.web import schemas
from xds_server.web.authenticator import PRINCIPAL, caller, need_everywhere
from xds_server.web.operations import Answer, Operation, Parameter, number
from xds_server.web.problems import ProblemError, read_json
from xds_server.web.schemas import AUDIT_PAGE, VERIFIED, WHO, paged
from xds_server.web.shapes import TokenBody
from xds_server.web.visible import audited_routes

if TYPE_CHECKING:
    from xds_server.engine import Engine
    from xds_server.store import AccessStore

__all__ = ["people"]

_MOST: Final = 10_000
_MOST_ANCHORS: Final = 100


def people(engine: Engine, access: AccessStore) -> list[Operation]:
    """Return what can be asked about who may do what, and who did what."""
    desk = _Desk(engine, access)
    return [
        Operation(
            method="GET",
            path="/v1/whoami",
            name="whoAmI",
            about="Say who asks, and what they may do.",
            role=Role.VIEWER,
            handler=desk.who,
            answer=Answer(about="Who asks.", schema=WHO),
        ),
        Operation(
            method="GET",
            path="/v1/tokens",
            name="listTokens",
            about="List tokens, without their secrets.",
            role=Role.ADMIN,
            handler=desk.tokens,
            answer=Answer(about="All tokens.", schema=schemas.TOKENS),
        ),
        Operation(
            method="POST",
            path="/v1/tokens",
            name="createToken",
            about="Make a token; its text is in this answer and never again.",
            role=Role.ADMIN,
            handler=desk.create,
            body={"application/json": TokenBody.model_json_schema()},
            answer=Answer(about="The token and its text.", schema=schemas.NEW_TOKEN),
        ),
        Operation(
            method="DELETE",
            path="/v1/tokens/{id}",
            name="revokeToken",
            about="End a token, and the logins that began with it.",
            role=Role.ADMIN,
            handler=desk.revoke,
            answer=Answer(about="It has ended.", schema=schemas.REVOKED),
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path="/v1/audit",
            name="listAudit",
            about="Say who did what, and why, refused tries included; oldest first, the newest page first.",
            role=Role.VIEWER,
            handler=desk.audit,
            parameters=(
                Parameter(name="route", about="Of this route only.", schema={"type": "string"}),
                *paged(_MOST),
            ),
            answer=Answer(about="A page of the audit.", schema=AUDIT_PAGE),
        ),
        Operation(
            method="GET",
            path="/v1/audit/verify",
            name="verifyAudit",
            about="Check the chain of the audit, and that it holds entries that are known from elsewhere.",
            role=Role.VIEWER,
            handler=desk.verify,
            parameters=(
                Parameter(
                    name="anchor",
                    about="An entry that is known from elsewhere, as NUMBER:HASH; repeatable.",
                    schema={"type": "string", "pattern": "^[0-9]{1,15}:[0-9a-f]{64}$"},
                ),
            ),
            answer=Answer(about="Where the chain does not hold.", schema=VERIFIED),
        ),
        Operation(
            method="GET",
            path="/v1/audit/export",
            name="exportAudit",
            about="Return the whole audit with its hashes, one entry a line.",
            role=Role.VIEWER,
            handler=desk.export,
            answer=Answer(about="One JSON object a line.", content_type="application/x-ndjson"),
        ),
    ]


class _Desk:
    def __init__(self, engine: Engine, access: AccessStore) -> None:
        self._engine = engine
        self._access = access

    async def who(self, request: web.Request) -> web.Response:
        by = caller(request, Role.VIEWER)
        principal = request[PRINCIPAL]
        grants = [{"role": g.role.word, "routes": dict(g.labels)} for g in principal.grants]
        return web.json_response({"name": principal.name, "actor": by.actor, "via": by.via, "grants": grants})

    async def tokens(self, request: web.Request) -> web.Response:
        await need_everywhere(request, self._engine, Role.ADMIN, "list tokens")
        found = await soon(self._access.tokens)
        return web.json_response({"tokens": [token_to_json(one) for one in found]})

    async def create(self, request: web.Request) -> web.Response:
        await need_everywhere(request, self._engine, Role.ADMIN, "make tokens")
        asked, now = await read_json(request, TokenBody), time.time()
        by = caller(request, Role.ADMIN)
        token, text = new_token(
            secrets.token_bytes(38),
            name=asked.name,
            grant=asked.grant,
            by=by.actor,
            now=now,
            expires_in=asked.expires_in,
        )
        deed = by.audit_event("create-token", "", now, detail=token.words)
        await soon(self._access.add_token, token, deed)
        return web.json_response(
            {"token": token_to_json(token), "text": text}, headers={"cache-control": "no-store"}
        )

    async def revoke(self, request: web.Request) -> web.Response:
        await need_everywhere(request, self._engine, Role.ADMIN, "revoke tokens")
        ident, now = request.match_info["id"], time.time()
        deed = caller(request, Role.ADMIN).audit_event("revoke-token", "", now, detail=ident)
        if not await soon(self._access.revoke, ident, deed):
            raise ProblemError(404, "unknown_token", f"there is no token {ident!r}")
        return web.json_response({"revoked": ident})

    async def audit(self, request: web.Request) -> web.Response:
        caller(request, Role.VIEWER)
        limit = number(request, "limit", default=100, most=_MOST) or 100
        found = await self._engine.queries.audit(
            limit,
            request.query.get("route"),
            routes=audited_routes(self._engine, request[PRINCIPAL]),
            before=number(request, "before", default=None),
        )
        following = found[0].seq if len(found) == limit and found[0].seq > 1 else None
        # Entries hold whole specs: what is made of many is no work for the loop that all others wait for.
        told = await self._engine.queries.in_thread(
            lambda: json.dumps({"entries": [entry_to_json(one) for one in found], "next": following})
        )
        return web.json_response(text=told)

    async def verify(self, request: web.Request) -> web.Response:
        await need_everywhere(request, self._engine, Role.VIEWER, "verify the audit")
        texts = request.query.getall("anchor", [])
        if len(texts) > _MOST_ANCHORS:
            raise ProblemError(400, "bad_request", f"anchor: {_MOST_ANCHORS} at once are allowed")
        try:
            anchors = [parse_checkpoint(text) for text in texts]
        except ValueError as error:
            raise ProblemError(400, "bad_request", f"anchor: {error}") from error
        entries, breaks = await self._engine.queries.audit_breaks(anchors)
        found = [{"seq": one.seq, "words": one.words} for one in breaks]
        return web.json_response({"holds": not found, "entries": entries, "breaks": found})

    async def export(self, request: web.Request) -> web.StreamResponse:
        await need_everywhere(request, self._engine, Role.VIEWER, "export the audit")
        answer = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await answer.prepare(request)
        async for lines in self._engine.queries.audit_lines():
            await answer.write(lines)
        await answer.write_eof()
        return answer
