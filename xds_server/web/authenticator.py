"""Who asks: bearer tokens for programs, sessions for pages, and what a browser of another site may not do.

A right secret always opens; wrong ones are counted by address, and beyond a few nobody from there is heard
for a while. Every wrong secret that was heard is in the audit. Where the control plane is `open`, which it
is on loopback only, everybody is an admin, and only this host's own names are answered, so that no page of
another site can reach it by a name of its own.
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
    EVERYTHING,
    FailureLimiter,
    Principal,
    Role,
    Session,
    address_prefix,
    digest,
    mint,
    token_id,
)
from xds_server.engine import Caller
from xds_server.store import StoreError, soon
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
    "caller",
    "need",
    "need_everywhere",
    "need_somewhere",
]

PRINCIPAL: Final = web.RequestKey("principal", Principal)
SESSION: Final = web.RequestKey("session", Session)
COOKIE: Final = "shiftplane_session"

_USED_EVERY: Final = 60.0
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_LOGINS: Final = 100
_LONGEST_KEY: Final = 128
_MOST_SOURCE: Final = 200

log = structlog.get_logger()


class Authenticator:
    """Finds out who asks."""

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
        """`public_url` is where people reach the pages, if that is not where this listens."""
        self.access = access
        self.is_open = is_open
        self.public_url = public_url.rstrip("/")
        self.limits = limits or SessionLimits()
        self._engine = engine
        self._clock = clock
        self._failures = FailureLimiter()
        self._logins = FailureLimiter(burst=_MOST_LOGINS)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let nobody in by a request of another site, and say who asks."""
        self._same_site(request)
        found = await self._who(request)
        if found is not None:
            request[PRINCIPAL] = found
        return await handler(request)

    async def token(self, text: str, request: web.Request) -> Token:
        """Return the token somebody shows.

        Raises:
            ProblemError: It opens nothing, or too many such were shown from there.
        """
        ident, now = token_id(text.strip()), self._clock()
        known = None if ident is None else await soon(self.access.token, ident)
        if known is not None and hmac.compare_digest(known.digest, digest(text.strip())) and known.lives(now):
            if now - (known.last_used_at or 0.0) >= _USED_EVERY:
                with suppress(StoreError):  # Who only looks is let in while nothing can be written, too.
                    await soon(self.access.used, known.id, now)
            return known
        ended = known is not None and not known.lives(now)
        await self.failed(
            request, f"token {ident or 'of another form'}", "it has ended" if ended else "unknown"
        )
        raise ProblemError(
            401,
            "unauthorized",
            "this token has ended; an admin makes another with: shiftplane token create"
            if ended
            else "this token is not known here; an admin makes one with: shiftplane token create",
            headers={"www-authenticate": 'Bearer realm="shiftplane"'},
        )

    async def failed(self, request: web.Request, who: str, why: str) -> None:
        """Count a wrong secret and write it down.

        Raises:
            ProblemError: There were too many from that address; this one is not written down any more.
        """
        source, now = _source(request), time.monotonic()
        wait = self._failures.wait(address_prefix(source), now)
        if wait > 0:
            raise ProblemError(
                429,
                "too_many_failures",
                f"too many wrong secrets came from {source}; the next is heard in {wait:.0f} s",
                headers={"retry-after": str(max(1, round(wait)))},
            )
        self._failures.note(address_prefix(source), now)
        log.warning("login_refused", who=who, why=why, source=source)
        deed = AuditEvent(
            at=self._clock(),
            actor=who,
            action="login",
            outcome=Outcome.REFUSED,
            detail=_text(why),
            source=source,
        )
        await self._engine.audit.record(deed)

    async def still(self, request: web.Request) -> bool:
        """Return whether who asked could still come in, for answers that go on; looking on is no use.

        Raises:
            StoreError: The store cannot be read.
        """
        session, header = request.get(SESSION), request.headers.get("authorization", "")
        if self.is_open:
            return True
        if session is not None:
            kept = await soon(self.access.session, session.digest)
            return kept is not None and kept.lives(self._clock(), self.limits.idle)
        ident = token_id(header.partition(" ")[2].strip())
        token = None if ident is None else await soon(self.access.token, ident)
        return token is not None and token.lives(self._clock())

    async def log_in(
        self, request: web.Request, principal: Principal, token: Token | None = None
    ) -> tuple[str, Session]:
        """Begin a session; return its secret, which is for the cookie alone.

        Raises:
            ProblemError: They logged in so often that more of it would only fill the audit.
        """
        who, at = f"{principal.via} {principal.name}", time.monotonic()
        if wait := self._logins.wait(who, at):
            raise ProblemError(
                429, "too_many_failures", f"{principal.name} logged in too often; wait for {wait:.0f} s"
            )
        self._logins.note(who, at)
        now, made = self._clock(), mint(secrets.token_bytes(38))
        ends = now + self.limits.lifetime
        session = Session(
            digest=made.digest,
            name=principal.name,
            via=principal.via,
            grants=principal.grants,
            csrf=secrets.token_urlsafe(32),
            created_at=now,
            seen_at=now,
            expires_at=ends if token is None else min(ends, token.expires_at),
            token=None if token is None else token.id,
        )
        deed = AuditEvent(
            at=now,
            actor=principal.name,
            action="login",
            via=principal.via,
            source=_source(request),
            detail=principal.words,
        )
        await soon(self.access.add_session, session, deed)
        log.info("logged_in", actor=principal.name, via=principal.via, source=_source(request))
        return made.text, session

    async def log_out(self, request: web.Request, session: Session) -> None:
        """End a session."""
        deed = AuditEvent(
            at=self._clock(), actor=session.name, action="logout", via=session.via, source=_source(request)
        )
        await soon(self.access.end_session, session.digest, deed)

    async def _who(self, request: web.Request) -> Principal | None:
        header = request.headers.get("authorization", "")
        if self.is_open:
            name = _claimed(request) or f"api@{_source(request)}"
            return Principal(name=name, via="open", grants=(EVERYTHING,))
        if header and not request.path.startswith("/v1/alarms/"):
            scheme, _, text = header.partition(" ")
            if scheme.lower() != "bearer":
                raise ProblemError(
                    401,
                    "unauthorized",
                    "a bearer token is needed: Authorization: Bearer spt_…",
                    headers={"www-authenticate": 'Bearer realm="shiftplane"'},
                )
            return (await self.token(text, request)).principal
        if not request.path.startswith("/v1/"):
            return await self._by_cookie(request)
        return None

    async def _by_cookie(self, request: web.Request) -> Principal | None:
        text, now = request.cookies.get(COOKIE, ""), self._clock()
        if not text:
            return None
        session = await soon(self.access.session, digest(text))
        if session is None or not session.lives(now, self.limits.idle):
            return None
        if now - session.seen_at >= _USED_EVERY:
            with suppress(StoreError):
                await soon(self.access.seen, session.digest, now)
            session = replace(session, seen_at=now)
        request[SESSION] = session
        return session.principal

    def _same_site(self, request: web.Request) -> None:
        """Refuse what a page of another site makes a browser send."""
        if self.is_open and not _own_name(request.host):
            raise ProblemError(
                421,
                "cross_site",
                f"nobody has to log in here, so only names of this host are answered, not {request.host!r}",
            )
        if request.method in _SAFE:
            return
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        allowed = {request.host, urlsplit(self.public_url).netloc} - {""}
        if site not in {"same-origin", "none"} or (
            origin is not None and urlsplit(origin).netloc not in allowed
        ):
            raise ProblemError(403, "cross_site", "a page of another site may not ask for this")


def caller(request: web.Request, role: Role, *, reason: str = "", asked: str = "", said: str = "") -> Caller:
    """Return who asks as the engine knows them; `asked` is a digest of what for.

    Who is at the keyboard, as `said` or else by a header, stands beside who showed the token.

    Raises:
        ProblemError: Nobody logged in, or the idempotency key is none.
    """
    principal = _known(request)
    key = request.headers.get("idempotency-key", "")
    if len(key) > _LONGEST_KEY or not key.isascii() or not (key.isprintable() or not key):
        raise ProblemError(
            400,
            "bad_request",
            f"Idempotency-Key: up to {_LONGEST_KEY} printable ASCII characters are allowed",
        )
    claimed, name = _text(said).strip() or _claimed(request), principal.name
    if claimed not in {"", name}:
        name = claimed if principal.via == "open" else f"{name} (as {claimed})"

    def may(labels: Mapping[str, str]) -> bool:
        return principal.may(role, labels)

    return Caller(
        actor=name,
        reason=_text(reason),
        via=principal.via,
        source=_source(request),
        key=key,
        digest=asked,
        may=may,
    )


async def need(request: web.Request, engine: Engine, role: Role, name: str, action: str) -> None:
    """Refuse, and write down, what somebody may not do with a route.

    Raises:
        ProblemError: Nobody logged in, or somebody who may not.
        UnknownRouteError: There is no such route.
    """
    principal = _known(request)
    if not principal.may(
        role, engine.queries.labels(name, seen=lambda labels: principal.may(Role.VIEWER, labels))
    ):
        await _refuse(request, engine, action, name, f"{principal.name} may not {action} route {name!r}")


async def need_somewhere(
    request: web.Request, engine: Engine, role: Role, action: str, name: str = ""
) -> None:
    """Refuse, and write down, what takes a role over some route; over which, the engine asks."""
    principal = _known(request)
    if principal.highest < role:
        await _refuse(request, engine, action, name, f"{principal.name} may not {action} specs")


async def need_everywhere(request: web.Request, engine: Engine, role: Role, action: str) -> None:
    """Refuse, and write down, what takes a role that no selector limits."""
    principal = _known(request)
    if not principal.may_everywhere(role):
        words = f"{principal.name} may not {action}: that takes the role {role.word} over all routes"
        await _refuse(request, engine, action, "", words)


async def _refuse(request: web.Request, engine: Engine, action: str, route: str, words: str) -> None:
    await engine.audit.refuse(caller(request, Role.VIEWER), action, route, words)
    raise ProblemError(403, "forbidden", f"{words}; they are {_known(request).words}")


def _known(request: web.Request) -> Principal:
    found: Principal | None = request.get(PRINCIPAL)
    if found is None:
        raise ProblemError(
            401,
            "unauthorized",
            "a token is needed: shiftplane login, or SHIFTPLANE_TOKEN, or Authorization: Bearer spt_…",
            headers={"www-authenticate": 'Bearer realm="shiftplane"'},
        )
    return found


def header_text(request: web.Request, name: str) -> str:
    """Return what a header says in percent-encoded UTF-8; bytes that are none become U+FFFD."""
    return _text(unquote(request.headers.get(name, "")))


def _text(text: str) -> str:
    """Return text the store can hold: what stands for single bytes would keep a deed out of the audit."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _claimed(request: web.Request) -> str:
    return header_text(request, "x-shiftplane-actor")[:_MOST_SOURCE].strip()


def _source(request: web.Request) -> str:
    return request.remote or ""


def _own_name(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
