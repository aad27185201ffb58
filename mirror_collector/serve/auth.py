"""Who may do what: by a token, as ``Authorization: Bearer …`` or as the password of HTTP Basic for browsers.

Tokens are known by their SHA-256 only. Without any configured everybody is an admin. The doors for legs and
outcomes, health and metrics need no token: they tell nothing of what was said.
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

__all__ = ["ROLE", "Role", "access", "needs"]


class Role(IntEnum):
    """What somebody may do; each may do what those before may."""

    NOBODY = 0
    VIEWER = 1
    """See figures."""

    READER = 2
    """Read what was said."""

    ADMIN = 3
    """Delete."""


ROLE: Final = web.RequestKey("role", Role)
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics", "/v1/exchanges", "/v1/outcomes"})


def access(known: Mapping[str, Role]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return the middleware that sets the role of each request; `known` maps SHA-256 of tokens to roles."""

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[ROLE] = _role(request.headers.get("authorization", ""), known) if known else Role.ADMIN
        if request[ROLE] is Role.NOBODY and request.path not in _OPEN:
            return web.json_response(
                {"error": "unauthorized", "detail": "a token is needed"},
                status=401,
                headers={"www-authenticate": 'Basic realm="mirror-collector: any name, token as password"'},
            )
        return await handler(request)

    return middleware


def needs(request: web.Request, role: Role) -> web.Response | None:
    """Return a refusal unless who asks may do it."""
    if request[ROLE] >= role:
        return None
    detail = f"the role {role.name.lower()} is needed"
    return web.json_response({"error": "forbidden", "detail": detail}, status=403)


def _role(header: str, known: Mapping[str, Role]) -> Role:
    scheme, _, value = header.partition(" ")
    token = value.strip()
    if scheme.lower() == "basic":
        try:
            token = base64.b64decode(token.encode(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return Role.NOBODY
    elif scheme.lower() != "bearer":
        return Role.NOBODY
    digest = sha256(token.encode(errors="surrogateescape")).hexdigest()
    return next((role for one, role in known.items() if hmac.compare_digest(one, digest)), Role.NOBODY)
