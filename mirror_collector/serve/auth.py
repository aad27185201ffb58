"""Authentication and authorization by access tokens.

Clients send a token as ``Authorization: Bearer …``; browsers send it as the password of HTTP Basic. Only the
SHA-256 of each token is configured. Without configured tokens, every client has the role admin. The endpoints
that receive legs and outcomes, and those for health and metrics, require no token; they return no messages.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["ACCESS_ROLE", "AccessRole", "auth_middleware", "require_role"]


class AccessRole(IntEnum):
    """Role of a client; each role includes the rights of those before it."""

    NONE = 0
    VIEWER = 1
    """Reads figures."""

    READER = 2
    """Reads messages."""

    ADMIN = 3
    """Deletes data."""


ACCESS_ROLE: Final = web.RequestKey("role", AccessRole)
_PUBLIC_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics", "/v1/exchanges", "/v1/outcomes"})


def auth_middleware(tokens: Mapping[str, AccessRole]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return the middleware that sets the role of each request; `tokens` maps SHA-256 digests to roles."""

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        role = _role(request.headers.get("authorization", ""), tokens) if tokens else AccessRole.ADMIN
        request[ACCESS_ROLE] = role
        if role is AccessRole.NONE and request.path not in _PUBLIC_PATHS:
            detail = (
                "a valid access token is required; send it as `Authorization: Bearer TOKEN`, or as the"
                " password of HTTP Basic authentication"
            )
            return web.json_response(
                {"error": "unauthorized", "detail": detail},
                status=401,
                headers={"www-authenticate": 'Basic realm="mirror-collector: any name, token as password"'},
            )
        return await handler(request)

    return middleware


def require_role(request: web.Request, role: AccessRole) -> web.Response | None:
    """Return a 403 response if the client lacks `role`, else None."""
    given = request[ACCESS_ROLE]
    if given >= role:
        return None
    detail = f"the role {role.name.lower()} is required; the token has the role {given.name.lower()}"
    return web.json_response({"error": "forbidden", "detail": detail}, status=403)


def _role(header: str, tokens: Mapping[str, AccessRole]) -> AccessRole:
    scheme, _, value = header.partition(" ")
    token = value.strip()
    if scheme.lower() == "basic":
        try:
            token = base64.b64decode(token.encode(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return AccessRole.NONE
    elif scheme.lower() != "bearer":
        return AccessRole.NONE
    digest = sha256(token.encode(errors="surrogateescape")).hexdigest()
    return next(
        (role for known, role in tokens.items() if hmac.compare_digest(known, digest)), AccessRole.NONE
    )
