"""Logging in through an identity provider: OpenID Connect's code flow with PKCE.

A login is begun here, bound to its browser by a cookie, and ended once: state, nonce and verifier are used up
by the first that comes back with them. The provider's word is believed only as a token it signed for us with
a key it publishes, by an asymmetric algorithm. Who gets no role from it may not come in, and that is in the
audit.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import structlog
from aiohttp import web

from xds_server.access.identity import Principal, granted, said
from xds_server.web.landing import local, logged_in
from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server.web.authenticator import Authenticator
    from xds_server.web.pages.frame import Frame
    from xds_server.web.settings import Oidc

__all__ = ["Provider", "ProviderError"]

_COOKIE: Final = "shiftplane_login"
_LASTS: Final = 600.0
_MOST: Final = 1_000
_KEYS_AGAIN: Final = 30.0
_KNOWN_FOR: Final = 3_600.0
_LEEWAY: Final = 60
_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_MOST_BYTES: Final = 1 << 20

log = structlog.get_logger()


class ProviderError(Exception):
    """The identity provider did not say, in a way that can be believed, who somebody is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A login that was begun."""

    browser: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    following: str
    ends: float


class Provider:
    """One identity provider."""

    def __init__(
        self, settings: Oidc, gate: Authenticator, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        import jwt  # noqa: PLC0415 - an extra of its own

        self._jwt = jwt
        self._settings = settings
        self._gate = gate
        self._clock = clock
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._about: dict[str, Any] = {}
        self._about_until = 0.0
        self._keys: dict[str, Any] = {}
        self._keys_at = float("-inf")
        self._fetching = asyncio.Lock()

    @property
    def name(self) -> str:
        """What people call it."""
        return self._settings.label

    def routes(self, frame: Frame) -> list[web.RouteDef]:
        """Return where logins begin and end."""

        async def begin(request: web.Request) -> web.StreamResponse:
            try:
                return await self._begin(request)
            except ProviderError as error:
                return frame.error(request, 502, f"{self.name} does not answer", str(error))

        async def end(request: web.Request) -> web.StreamResponse:
            try:
                return await self._end(request)
            except ProviderError as error:
                log.warning("login_failed", provider=self._settings.issuer, error=str(error))
                try:
                    await self._gate.failed(request, self._settings.issuer, str(error))
                except ProblemError as many:
                    return frame.error(request, many.status, "Not logged in", many.detail)
                return frame.error(request, 403, "Not logged in", str(error))

        return [
            web.get("/login/oidc", frame.said_nicely(begin)),
            web.get("/login/oidc/callback", frame.said_nicely(end)),
        ]

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        about, now = await self._discovered(), self._clock()
        while self._begun and (len(self._begun) >= _MOST or next(iter(self._begun.values())).ends <= now):
            self._begun.popitem(last=False)
        state, browser, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        begun = _Begun(
            browser=sha256(browser.encode()).hexdigest(),
            nonce=secrets.token_urlsafe(32),
            verifier=verifier,
            following=local(request.query.get("next", "/")),
            ends=now + _LASTS,
        )
        self._begun[state] = begun
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._back(request),
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": begun.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        join = "&" if "?" in about["authorization_endpoint"] else "?"
        answer = web.Response(
            status=302, headers={"location": f"{about['authorization_endpoint']}{join}{urlencode(asked)}"}
        )
        answer.set_cookie(
            _COOKIE,
            browser,
            path="/login/oidc",
            httponly=True,
            samesite="Lax",
            secure=self._back(request).startswith("https:"),
            max_age=int(_LASTS),
        )
        return answer

    async def _end(self, request: web.Request) -> web.StreamResponse:
        begun = self._begun.pop(request.query.get("state", ""), None)
        shown = sha256(request.cookies.get(_COOKIE, "").encode()).hexdigest()
        if begun is None or begun.ends <= self._clock() or not hmac.compare_digest(begun.browser, shown):
            raise ProviderError("this login was not begun in this browser, or too long ago; log in again")
        if "error" in request.query:
            raise ProviderError(f"{self.name} refused it: {request.query['error'][:200]}")
        token = await self._exchanged(request, request.query.get("code", ""), begun)
        claims = await self._believed(token, begun)
        principal = Principal(
            name=said(claims, self._settings.name_claim),
            via=f"login {self._settings.issuer}",
            grants=granted(claims, self._settings.rules),
        )
        if not principal.grants:
            raise ProviderError(
                f"{principal.name} has no role here; an admin gives one by a claim in the access file"
            )
        text, _ = await self._gate.log_in(request, principal)
        answer = logged_in(request, self._gate, text, begun.following)
        answer.del_cookie(_COOKIE, path="/login/oidc")
        return answer

    async def _exchanged(self, request: web.Request, code: str, begun: _Begun) -> str:
        """Return the ID token for a code."""
        about, settings = await self._discovered(), self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back(request),
            "code_verifier": begun.verifier,
        }
        headers: dict[str, str] = {}
        methods = about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
        found = await self._asked("POST", about["token_endpoint"], data=form, headers=headers)
        token = found.get("id_token")
        if not isinstance(token, str):
            raise ProviderError(f"{self.name} gave no ID token")
        return token

    async def _believed(self, token: str, begun: _Begun) -> dict[str, Any]:
        """Return the claims of a token, once everything about it was checked."""
        jwt = self._jwt
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in _ALGORITHMS:
                raise ProviderError(f"its token is signed by {head.get('alg')!r}, which proves nothing here")
            key = await self._key(str(head.get("kid", "")))
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[head["alg"]],
                audience=self._settings.client_id,
                issuer=(await self._discovered())["issuer"],
                leeway=_LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise ProviderError(f"its token cannot be believed: {error}") from error
        found: dict[str, Any] = dict(claims)
        if not hmac.compare_digest(str(found.get("nonce", "")).encode(), begun.nonce.encode()):
            raise ProviderError("its token is of another login")
        audience = found.get("aud")
        if isinstance(audience, list) and len(audience) > 1 and found.get("azp") != self._settings.client_id:
            raise ProviderError("its token was made for another program")
        return found

    async def _key(self, kid: str) -> Any:
        """Return a key the provider publishes; one that is not known is asked for, not too often."""
        async with self._fetching:
            if kid not in self._keys and self._clock() - self._keys_at >= _KEYS_AGAIN:
                found = await self._asked("GET", (await self._discovered())["jwks_uri"])
                self._keys_at = self._clock()
                self._keys = self._read(found)
        key = self._keys.get(kid)
        if key is None and kid == "" and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None:
            raise ProviderError("its token is signed by a key that it does not publish")
        return key

    def _read(self, found: dict[str, Any]) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for one in found.get("keys") or ():
            try:
                key = self._jwt.PyJWK.from_dict(one)
            except (self._jwt.PyJWTError, AttributeError, TypeError, KeyError):
                continue  # A key of a kind that is not known here cannot have signed what is believed here.
            if one.get("use", "sig") == "sig" and one.get("kty") != "oct":
                keys[str(one.get("kid", ""))] = key
        return keys

    async def _discovered(self) -> dict[str, Any]:
        """Return where the provider says it has what."""
        if self._clock() < self._about_until:
            return self._about
        issuer = self._settings.issuer
        found = await self._asked("GET", f"{issuer}/.well-known/openid-configuration")
        if str(found.get("issuer", "")).rstrip("/") != issuer:
            raise ProviderError(f"what answers at {issuer} calls itself {found.get('issuer')!r}")
        missing = [n for n in ("authorization_endpoint", "token_endpoint", "jwks_uri") if not found.get(n)]
        if missing:
            raise ProviderError(f"{issuer} does not say its {', '.join(missing)}")
        self._about, self._about_until = found, self._clock() + _KNOWN_FOR
        return found

    async def _asked(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(method, url, allow_redirects=False, **more) as answer,
            ):
                raw = await answer.content.read(_MOST_BYTES)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProviderError(f"{url}: {str(error) or error.__class__.__name__}") from error
        if status != 200:
            raise ProviderError(f"{self.name} answered {status} at {url}")
        found = _as_json(raw)
        if not isinstance(found, dict):
            raise ProviderError(f"{self.name} answered something else at {url}")
        return found

    def _back(self, request: web.Request) -> str:
        base = self._gate.public_url or f"{request.scheme}://{request.host}"
        return f"{base}/login/oidc/callback"


def _as_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProviderError("what answers is no JSON") from error
