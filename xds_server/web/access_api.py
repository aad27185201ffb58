"""API operations for tokens and the audit log."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from xds_server.access.audit import entry_to_json, parse_checkpoint
from xds_server.access.identity import Role, new_token, token_to_json
from xds_server.store import run_in_store_thread
from xds_server.web import schemas
from xds_server.web.authenticator import PRINCIPAL, require_role_everywhere, to_caller
from xds_server.web.bodies import TokenBody
from xds_server.web.operations import Operation, Parameter, SuccessResponse, query_number
from xds_server.web.problems import ProblemError, read_json
from xds_server.web.schemas import AUDIT_PAGE, VERIFIED, WHO_AM_I, page_parameters
from xds_server.web.visibility import audited_routes

if TYPE_CHECKING:
    from xds_server.engine import Engine
    from xds_server.store import AccessStore

__all__ = ["access_operations"]

_MAX_LIMIT: Final = 10_000
_MAX_CHECKPOINTS: Final = 100


def access_operations(engine: Engine, access: AccessStore) -> list[Operation]:
    """Return the operations about the caller's identity, tokens and the audit log."""
    handlers = _AccessHandlers(engine, access)
    return [
        Operation(
            method="GET",
            path="/v1/whoami",
            name="whoAmI",
            summary="Return the caller's identity and grants.",
            role=Role.VIEWER,
            handler=handlers.who_am_i,
            response=SuccessResponse(description="The caller.", schema=WHO_AM_I),
        ),
        Operation(
            method="GET",
            path="/v1/tokens",
            name="listTokens",
            summary="List tokens, without their secrets. Requires the role for all routes.",
            role=Role.ADMIN,
            handler=handlers.list_tokens,
            response=SuccessResponse(description="All tokens.", schema=schemas.TOKENS),
        ),
        Operation(
            method="POST",
            path="/v1/tokens",
            name="createToken",
            summary="Create a token; its text is returned only once, in this response. Requires the role for "
            "all routes.",
            role=Role.ADMIN,
            handler=handlers.create_token,
            body={"application/json": TokenBody.model_json_schema()},
            response=SuccessResponse(description="The token and its text.", schema=schemas.NEW_TOKEN),
        ),
        Operation(
            method="DELETE",
            path="/v1/tokens/{id}",
            name="revokeToken",
            summary="Revoke a token, and end the sessions that were started with it. Requires the role for "
            "all routes.",
            role=Role.ADMIN,
            handler=handlers.revoke_token,
            response=SuccessResponse(description="The token was revoked.", schema=schemas.REVOKED),
            error_statuses=(404,),
        ),
        Operation(
            method="GET",
            path="/v1/audit",
            name="listAudit",
            summary="List audit entries, including refused actions. The first page has the newest entries; "
            "within a page, the oldest is first.",
            role=Role.VIEWER,
            handler=handlers.list_audit,
            parameters=(
                Parameter(name="route", description="Only entries of this route.", schema={"type": "string"}),
                *page_parameters(_MAX_LIMIT),
            ),
            response=SuccessResponse(description="A page of audit entries.", schema=AUDIT_PAGE),
        ),
        Operation(
            method="GET",
            path="/v1/audit/verify",
            name="verifyAudit",
            summary="Verify the hash chain of the audit log, and that it contains the given checkpoints. "
            "Requires the role for all routes.",
            role=Role.VIEWER,
            handler=handlers.verify_audit,
            parameters=(
                Parameter(
                    name="anchor",
                    description="A checkpoint recorded outside the store, as NUMBER:HASH; repeatable.",
                    schema={"type": "string", "pattern": "^[0-9]{1,15}:[0-9a-f]{64}$"},
                ),
            ),
            response=SuccessResponse(
                description="Whether the chain is intact, and where it is broken.", schema=VERIFIED
            ),
        ),
        Operation(
            method="GET",
            path="/v1/audit/export",
            name="exportAudit",
            summary="Export the whole audit log with its hashes, one entry per line. Requires the role for "
            "all routes.",
            role=Role.VIEWER,
            handler=handlers.export_audit,
            response=SuccessResponse(
                description="One JSON object per line.", content_type="application/x-ndjson"
            ),
        ),
    ]


class _AccessHandlers:
    def __init__(self, engine: Engine, access: AccessStore) -> None:
        self._engine = engine
        self._access = access

    async def who_am_i(self, request: web.Request) -> web.Response:
        by = to_caller(request, Role.VIEWER)
        principal = request[PRINCIPAL]
        grants = [{"role": grant.role.text, "routes": dict(grant.labels)} for grant in principal.grants]
        return web.json_response({"name": principal.name, "actor": by.actor, "via": by.via, "grants": grants})

    async def list_tokens(self, request: web.Request) -> web.Response:
        await require_role_everywhere(request, self._engine, Role.ADMIN, "list tokens")
        tokens = await run_in_store_thread(self._access.tokens)
        return web.json_response({"tokens": [token_to_json(token) for token in tokens]})

    async def create_token(self, request: web.Request) -> web.Response:
        await require_role_everywhere(request, self._engine, Role.ADMIN, "create tokens")
        body, now = await read_json(request, TokenBody), time.time()
        by = to_caller(request, Role.ADMIN)
        token, text = new_token(
            secrets.token_bytes(38),
            name=body.name,
            grant=body.grant,
            by=by.actor,
            now=now,
            expires_in=body.expires_in,
        )
        event = by.audit_event("create-token", "", now, detail=token.description)
        await run_in_store_thread(self._access.add_token, token, event)
        return web.json_response(
            {"token": token_to_json(token), "text": text}, headers={"cache-control": "no-store"}
        )

    async def revoke_token(self, request: web.Request) -> web.Response:
        await require_role_everywhere(request, self._engine, Role.ADMIN, "revoke tokens")
        ident, now = request.match_info["id"], time.time()
        event = to_caller(request, Role.ADMIN).audit_event("revoke-token", "", now, detail=f"token {ident}")
        if not await run_in_store_thread(self._access.revoke_token, ident, event):
            raise ProblemError(
                404,
                "unknown_token",
                f'there is no token {ident!r}; "shiftplane token list" lists all tokens',
            )
        return web.json_response({"revoked": ident})

    async def list_audit(self, request: web.Request) -> web.Response:
        to_caller(request, Role.VIEWER)  # Rejects requests that are not authenticated.
        limit = query_number(request, "limit", default=100, maximum=_MAX_LIMIT) or 100
        entries = await self._engine.queries.audit(
            limit,
            request.query.get("route"),
            routes=audited_routes(self._engine, request[PRINCIPAL]),
            before=query_number(request, "before", default=None),
        )
        following = entries[0].seq if len(entries) == limit and entries[0].seq > 1 else None
        # Entries contain whole specs; encoding many of them would block the event loop.
        text = await self._engine.queries.in_thread(
            lambda: json.dumps({"entries": [entry_to_json(entry) for entry in entries], "next": following})
        )
        return web.json_response(text=text)

    async def verify_audit(self, request: web.Request) -> web.Response:
        await require_role_everywhere(request, self._engine, Role.VIEWER, "verify the audit log")
        texts = request.query.getall("anchor", [])
        if len(texts) > _MAX_CHECKPOINTS:
            raise ProblemError(
                400,
                "bad_request",
                f"the query has {len(texts)} values of anchor; allowed: at most {_MAX_CHECKPOINTS}",
            )
        try:
            checkpoints = [parse_checkpoint(text) for text in texts]
        except ValueError as error:
            raise ProblemError(400, "bad_request", f"anchor: {error}") from error
        count, breaks = await self._engine.queries.audit_breaks(checkpoints)
        found = [{"seq": chain_break.seq, "words": chain_break.message} for chain_break in breaks]
        return web.json_response({"holds": not found, "entries": count, "breaks": found})

    async def export_audit(self, request: web.Request) -> web.StreamResponse:
        await require_role_everywhere(request, self._engine, Role.VIEWER, "export the audit log")
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        async for lines in self._engine.queries.audit_lines():
            await response.write(lines)
        await response.write_eof()
        return response
