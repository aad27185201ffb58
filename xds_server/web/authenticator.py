"""Authenticate requests: bearer tokens for the API, session cookies for the pages.

A valid secret is always accepted. Wrong secrets are counted by client address (IPv6: by /64 network) and
audited. After too many wrong secrets, further ones from that address or network get the status 429 for a
while and are not audited. Cross-site requests are rejected. In open mode, on loopback only, every caller is
an admin; the host of a request must then be `localhost` or a loopback address, so that a web site cannot
reach the control plane by DNS rebinding.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import structlog
from aiohttp import web

from xds_server.access.audit import AuditEvent, Outcome
from xds_server.access.identity import (
    FULL_ACCESS,
    FailureLimiter,
    Principal,
    Role,
    Session,
    address_prefix,
    digest,
    issue_secret,
    token_id,
)
from xds_server.engine import Caller
from xds_server.store import StoreError, run_in_store_thread
from xds_server.web.problems import ProblemError
from xds_server.web.settings import SessionLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from xds_server.access.identity import Token
    from xds_server.engine import Engine
    from xds_server.store import AccessStore

__all__ = [
    "COOKIE",
    "PRINCIPAL",
    "SESSION",
    "Authenticator",
    "header_text",
    "require_role",
    "require_role_everywhere",
    "require_role_somewhere",
    "to_caller",
]

PRINCIPAL: Final = web.RequestKey("principal", Principal)
SESSION: Final = web.RequestKey("session", Session)
COOKIE: Final = "shiftplane_session"

_RECORD_USE_SECONDS: Final = 60.0
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGIN_BURST: Final = 100
_MAX_KEY_LENGTH: Final = 128
_MAX_ACTOR_LENGTH: Final = 200
_BEARER: Final = {"www-authenticate": 'Bearer realm="shiftplane"'}

log = structlog.get_logger()


class Authenticator:
    """Determine the principal of each request, and manage sessions."""

    def __init__(
        self,
        access: AccessStore,
        engine: Engine,
        *,
        is_open: bool,
        public_url: str = "",
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`public_url` is the URL of the pages for browsers if it differs from the listen address."""
        self.access = access
        self.is_open = is_open
        self.public_url = public_url.rstrip("/")
        self.limits = limits or SessionLimits()
        self._engine = engine
        self._clock = clock
        self._failures = FailureLimiter()
        self._logins = FailureLimiter(burst=_LOGIN_BURST)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Reject cross-site requests, and store the principal in the request."""
        self._check_same_site(request)
        found = await self._authenticate(request)
        if found is not None:
            request[PRINCIPAL] = found
        return await handler(request)

    async def token(self, text: str, request: web.Request) -> Token:
        """Return the token that a secret belongs to.

        Raises:
            ProblemError: The secret is wrong or expired; 429 after too many such secrets of one source.
        """
        ident, now = token_id(text.strip()), self._clock()
        known = None if ident is None else await run_in_store_thread(self.access.token, ident)
        if (
            known is not None
            and hmac.compare_digest(known.digest, digest(text.strip()))
            and known.is_valid(now)
        ):
            if now - (known.last_used_at or 0.0) >= _RECORD_USE_SECONDS:
                with suppress(StoreError):  # Not recorded if the store cannot be written.
                    await run_in_store_thread(self.access.record_token_use, known.id, now)
            return known
        expired = known is not None and not known.is_valid(now)
        reason = "the token has expired" if expired else "unknown token"
        await self.record_failure(request, f"token {ident or 'with invalid format'}", reason)
        raise ProblemError(
            401,
            "unauthorized",
            f'{reason}; an admin can create a new token with "shiftplane token create NAME --role ROLE"',
            headers=_BEARER,
        )

    async def record_failure(self, request: web.Request, actor: str, reason: str) -> None:
        """Count a failed authentication by client address (IPv6: by /64 network), and audit it.

        Raises:
            ProblemError: The address or network failed too often; this failure is not audited.
        """
        source, now = _source(request), time.monotonic()
        wait = self._failures.retry_after(network := address_prefix(source), now)
        if wait > 0:
            raise ProblemError(
                429,
                "too_many_failures",
                f"too many failed authentications from {network}; retry after {max(1, wait):.0f} s",
                headers={"retry-after": str(max(1, round(wait)))},
            )
        self._failures.record_failure(network, now)
        log.warning("login_rejected", actor=actor, reason=reason, source=source)
        event = AuditEvent(
            at=self._clock(),
            actor=actor,
            action="login",
            outcome=Outcome.REFUSED,
            detail=_storable(reason),
            source=source,
        )
        await self._engine.audit.record(event)

    async def is_still_valid(self, request: web.Request) -> bool:
        """Return whether the request's token or session is still valid, for long-lived responses.

        This does not count as a use of the session.

        Raises:
            StoreError: The store cannot be read.
        """
        session, header = request.get(SESSION), request.headers.get("authorization", "")
        if self.is_open:
            return True
        if session is not None:
            stored = await run_in_store_thread(self.access.session, session.digest)
            return stored is not None and stored.is_valid(self._clock(), self.limits.idle)
        ident = token_id(header.partition(" ")[2].strip())
        token = None if ident is None else await run_in_store_thread(self.access.token, ident)
        return token is not None and token.is_valid(self._clock())

    async def log_in(
        self, request: web.Request, principal: Principal, token: Token | None = None
    ) -> tuple[str, Session]:
        """Create a session; return its secret, which only the cookie may contain, and the session.

        Raises:
            ProblemError: The principal logged in so often that more logins would flood the audit log.
        """
        key, monotonic = f"{principal.via} {principal.name}", time.monotonic()
        if wait := self._logins.retry_after(key, monotonic):
            message = f"{principal.name} logged in too often; retry after {max(1, wait):.0f} s"
            raise ProblemError(429, "too_many_failures", message)
        self._logins.record_failure(key, monotonic)
        now, secret = self._clock(), issue_secret(secrets.token_bytes(38))
        expires_at = now + self.limits.lifetime
        session = Session(
            digest=secret.digest,
            name=principal.name,
            via=principal.via,
            grants=principal.grants,
            csrf=secrets.token_urlsafe(32),
            created_at=now,
            seen_at=now,
            expires_at=expires_at if token is None else min(expires_at, token.expires_at),
            token=None if token is None else token.id,
        )
        event = AuditEvent(
            at=now,
            actor=principal.name,
            action="login",
            via=principal.via,
            source=_source(request),
            detail=principal.description,
        )
        await run_in_store_thread(self.access.add_session, session, event)
        log.info("session_created", actor=principal.name, via=principal.via, source=_source(request))
        return secret.text, session

    async def log_out(self, request: web.Request, session: Session) -> None:
        """End a session."""
        event = AuditEvent(
            at=self._clock(), actor=session.name, action="logout", via=session.via, source=_source(request)
        )
        await run_in_store_thread(self.access.end_session, session.digest, event)

    async def _authenticate(self, request: web.Request) -> Principal | None:
        header = request.headers.get("authorization", "")
        if self.is_open:
            name = _reported_user(request) or f"api@{_source(request)}"
            return Principal(name=name, via="open", grants=(FULL_ACCESS,))
        if header and not request.path.startswith("/v1/alarms/"):
            scheme, _, text = header.partition(" ")
            if scheme.lower() != "bearer":
                raise ProblemError(
                    401,
                    "unauthorized",
                    "a bearer token is required: Authorization: Bearer spt_…",
                    headers=_BEARER,
                )
            return (await self.token(text, request)).principal
        if not request.path.startswith("/v1/"):
            return await self._session_principal(request)
        return None

    async def _session_principal(self, request: web.Request) -> Principal | None:
        """Return the principal of the request's session cookie; None without a valid session."""
        text, now = request.cookies.get(COOKIE, ""), self._clock()
        if not text:
            return None
        session = await run_in_store_thread(self.access.session, digest(text))
        if session is None or not session.is_valid(now, self.limits.idle):
            return None
        if now - session.seen_at >= _RECORD_USE_SECONDS:
            with suppress(StoreError):
                await run_in_store_thread(self.access.record_session_use, session.digest, now)
            session = replace(session, seen_at=now)
        request[SESSION] = session
        return session.principal

    def _check_same_site(self, request: web.Request) -> None:
        """Reject cross-site requests and, in open mode, requests for a host that is not loopback."""
        if self.is_open and not _is_loopback_name(request.host):
            message = (
                f"host {request.host!r} is not allowed while login is disabled "
                '("shiftplane serve --open"); use localhost or a loopback address'
            )
            raise ProblemError(421, "cross_site", message)
        if request.method in _SAFE_METHODS:
            return
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        allowed = {request.host, urlsplit(self.public_url).netloc} - {""}
        if site not in {"same-origin", "none"} or (
            origin is not None and urlsplit(origin).netloc not in allowed
        ):
            message = (
                "requests from pages of other sites are not allowed; if users open the pages at another "
                'address than that of --http, start "shiftplane serve" with --public-url URL'
            )
            raise ProblemError(403, "cross_site", message)


def to_caller(
    request: web.Request, role: Role, *, reason: str = "", digest: str = "", reported_user: str = ""
) -> Caller:
    """Return the engine's caller for a request; `digest` is a digest of the request's content.

    The caller may act on the routes for which the principal has `role`. The reported user is the person on
    whose behalf a program calls: `reported_user`, or else the header `X-Shiftplane-Actor`. The reported user
    is recorded in addition to the principal's name; in open mode, instead of that name.

    Raises:
        ProblemError: The request is not authenticated, or its idempotency key is invalid.
    """
    principal = _principal(request)
    key = request.headers.get("idempotency-key", "")
    if len(key) > _MAX_KEY_LENGTH or not key.isascii() or not (key.isprintable() or not key):
        message = f"Idempotency-Key must be at most {_MAX_KEY_LENGTH} printable ASCII characters"
        raise ProblemError(400, "bad_request", message)
    reported, name = _storable(reported_user).strip() or _reported_user(request), principal.name
    if reported not in {"", name}:
        name = reported if principal.via == "open" else f"{name} (as {reported})"

    def may(labels: Mapping[str, str]) -> bool:
        return principal.may(role, labels)

    return Caller(
        actor=name,
        reason=_storable(reason),
        via=principal.via,
        source=_source(request),
        key=key,
        digest=digest,
        may=may,
    )


async def require_role(request: web.Request, engine: Engine, role: Role, name: str, action: str) -> None:
    """Require a role for one route; a refusal is added to the audit log.

    Raises:
        ProblemError: The request is not authenticated, or the principal does not have the role.
        UnknownRouteError: The route does not exist.
    """
    principal = _principal(request)
    if not principal.may(
        role, engine.queries.labels(name, seen=lambda labels: principal.may(Role.VIEWER, labels))
    ):
        message = f"{principal.name} may not {action} route {name!r} without the role {role.text} for it"
        await _refuse(request, engine, action, name, message)


async def require_role_somewhere(
    request: web.Request, engine: Engine, role: Role, action: str, name: str = ""
) -> None:
    """Require a role for at least one route; the engine then checks the role for each affected route.

    Raises:
        ProblemError: The request is not authenticated, or the principal does not have the role.
    """
    principal = _principal(request)
    if principal.highest_role < role:
        message = f"{principal.name} may not {action} specs: this requires the role {role.text}"
        await _refuse(request, engine, action, name, message)


async def require_role_everywhere(request: web.Request, engine: Engine, role: Role, action: str) -> None:
    """Require a role for all routes; a refusal is added to the audit log.

    Raises:
        ProblemError: The request is not authenticated, or the principal does not have the role.
    """
    principal = _principal(request)
    if not principal.may_everywhere(role):
        message = f"{principal.name} may not {action}: this requires the role {role.text} for all routes"
        await _refuse(request, engine, action, "", message)


async def _refuse(request: web.Request, engine: Engine, action: str, route: str, message: str) -> None:
    await engine.audit.refuse(to_caller(request, Role.VIEWER), action, route, message)
    raise ProblemError(403, "forbidden", f"{message}; granted: {_principal(request).description}")


def _principal(request: web.Request) -> Principal:
    found: Principal | None = request.get(PRINCIPAL)
    if found is None:
        raise ProblemError(
            401,
            "unauthorized",
            'a token is required: run "shiftplane login", set the environment variable SHIFTPLANE_TOKEN, or '
            'send the header "Authorization: Bearer spt_…"',
            headers=_BEARER,
        )
    return found


def header_text(request: web.Request, name: str) -> str:
    """Return the decoded value of a percent-encoded UTF-8 header; invalid bytes become U+FFFD."""
    return _storable(unquote(request.headers.get(name, "")))


def _storable(text: str) -> str:
    """Replace surrogates by U+FFFD: SQLite cannot store them, and an audit event with them would be lost."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _reported_user(request: web.Request) -> str:
    return header_text(request, "x-shiftplane-actor")[:_MAX_ACTOR_LENGTH].strip()


def _source(request: web.Request) -> str:
    return request.remote or ""


def _is_loopback_name(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
