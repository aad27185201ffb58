"""Log in with an identity provider: the OpenID Connect authorization code flow with PKCE.

A cookie binds a pending login to its browser, and its state, nonce and verifier can be used once. Claims are
accepted only from an ID token that the provider issued for this client and signed with a published key and an
asymmetric algorithm. A user without any role is rejected, which is recorded in the audit log.
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

from xds_server.access.identity import Principal, display_name, grants_from_claims
from xds_server.web.problems import ProblemError
from xds_server.web.redirects import local_path, login_redirect

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server.web.authenticator import Authenticator
    from xds_server.web.pages.renderer import PageRenderer
    from xds_server.web.settings import Oidc

__all__ = ["OidcProvider", "ProviderError"]

_COOKIE: Final = "shiftplane_login"
_LOGIN_SECONDS: Final = 600.0
_MAX_PENDING_LOGINS: Final = 1_000
_MIN_KEY_FETCH_SECONDS: Final = 30.0
"""Minimum time between two fetches of the signing keys; otherwise each unknown key id would cause one."""
_METADATA_SECONDS: Final = 3_600.0
_CLOCK_SKEW_SECONDS: Final = 60
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
_MAX_RESPONSE_BYTES: Final = 1 << 20

log = structlog.get_logger()


class ProviderError(Exception):
    """The identity provider is unreachable, or its response or ID token is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingLogin:
    """A login that was started; `browser` is the SHA-256 of the browser's cookie."""

    browser: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_to: str
    expires_at: float


class OidcProvider:
    """An OpenID Connect provider: the routes that start and finish a login."""

    def __init__(
        self, settings: Oidc, authenticator: Authenticator, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a provider that fetches its metadata at the first login."""
        import jwt  # noqa: PLC0415 - PyJWT is an optional dependency

        self._jwt = jwt
        self._settings = settings
        self._authenticator = authenticator
        self._clock = clock
        self._pending: OrderedDict[str, _PendingLogin] = OrderedDict()
        self._metadata: dict[str, Any] = {}
        self._metadata_expires_at = 0.0
        self._keys: dict[str, Any] = {}
        self._keys_fetched_at = float("-inf")
        self._key_lock = asyncio.Lock()

    @property
    def name(self) -> str:
        """The provider's display name."""
        return self._settings.label

    def routes(self, renderer: PageRenderer) -> list[web.RouteDef]:
        """Return the routes that start a login and receive its result."""

        async def start(request: web.Request) -> web.StreamResponse:
            try:
                return await self._start(request)
            except ProviderError as error:
                return renderer.error(request, 502, f"{self.name} cannot be used", str(error))

        async def finish(request: web.Request) -> web.StreamResponse:
            try:
                return await self._finish(request)
            except ProviderError as error:
                log.warning("login_failed", provider=self._settings.issuer, error=str(error))
                try:
                    await self._authenticator.record_failure(request, self._settings.issuer, str(error))
                except ProblemError as limited:
                    return renderer.error(request, limited.status, "Login failed", limited.detail)
                return renderer.error(request, 403, "Login failed", str(error))

        return [
            web.get("/login/oidc", renderer.with_error_page(start)),
            web.get("/login/oidc/callback", renderer.with_error_page(finish)),
        ]

    async def _start(self, request: web.Request) -> web.StreamResponse:
        metadata, now = await self._discover(), self._clock()
        pending = self._pending
        while pending and (
            len(pending) >= _MAX_PENDING_LOGINS or next(iter(pending.values())).expires_at <= now
        ):
            pending.popitem(last=False)
        state, browser, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        login = _PendingLogin(
            browser=sha256(browser.encode()).hexdigest(),
            nonce=secrets.token_urlsafe(32),
            verifier=verifier,
            redirect_to=local_path(request.query.get("next", "/")),
            expires_at=now + _LOGIN_SECONDS,
        )
        pending[state] = login
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._callback_url(request),
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": login.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = metadata["authorization_endpoint"]
        separator = "&" if "?" in endpoint else "?"
        response = web.Response(status=302, headers={"location": f"{endpoint}{separator}{urlencode(query)}"})
        response.set_cookie(
            _COOKIE,
            browser,
            path="/login/oidc",
            httponly=True,
            samesite="Lax",
            secure=self._callback_url(request).startswith("https:"),
            max_age=int(_LOGIN_SECONDS),
        )
        return response

    async def _finish(self, request: web.Request) -> web.StreamResponse:
        login = self._pending.pop(request.query.get("state", ""), None)
        browser = sha256(request.cookies.get(_COOKIE, "").encode()).hexdigest()
        if (
            login is None
            or login.expires_at <= self._clock()
            or not hmac.compare_digest(login.browser, browser)
        ):
            raise ProviderError(
                "this login has expired, was already completed or was started in another browser; "
                "log in again"
            )
        if "error" in request.query:
            raise ProviderError(f"{self.name} rejected the login: {request.query['error'][:200]}")
        token = await self._exchange_code(request, request.query.get("code", ""), login)
        claims = await self._verified_claims(token, login)
        principal = Principal(
            name=display_name(claims, self._settings.name_claim),
            via=f"login {self._settings.issuer}",
            grants=grants_from_claims(claims, self._settings.rules),
        )
        if not principal.grants:
            raise ProviderError(self._no_role(principal.name, claims))
        secret, _ = await self._authenticator.log_in(request, principal)
        response = login_redirect(request, self._authenticator, secret, login.redirect_to)
        response.del_cookie(_COOKIE, path="/login/oidc")
        return response

    def _no_role(self, name: str, claims: dict[str, Any]) -> str:
        text = (
            f"{name} has no role: the ID token matches no rule in oidc.roles; an admin can add a rule to the "
            'settings file given to "shiftplane serve --access"'
        )
        by_email = any(rule.claim == "email" for rule in self._settings.rules)
        if by_email and claims.get("email_verified") in (False, "false"):
            text += f". Rules on the claim email do not apply: {self.name} has not verified the email address"
        return text

    async def _exchange_code(self, request: web.Request, code: str, login: _PendingLogin) -> str:
        """Return the ID token for an authorization code."""
        metadata, settings = await self._discover(), self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback_url(request),
            "code_verifier": login.verifier,
        }
        headers: dict[str, str] = {}
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            credentials = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        else:
            form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
        found = await self._request_json("POST", metadata["token_endpoint"], data=form, headers=headers)
        token = found.get("id_token")
        if not isinstance(token, str):
            raise ProviderError(f"{self.name} returned no ID token")
        return token

    async def _verified_claims(self, token: str, login: _PendingLogin) -> dict[str, Any]:
        """Return the claims of an ID token after verifying signature, issuer, audience, times and nonce."""
        jwt = self._jwt
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in _ALGORITHMS:
                raise ProviderError(
                    f"the ID token has the signature algorithm {header.get('alg')!r}; allowed: "
                    f"{', '.join(_ALGORITHMS)}"
                )
            key = await self._key(str(header.get("kid", "")))
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[header["alg"]],
                audience=self._settings.client_id,
                issuer=(await self._discover())["issuer"],
                leeway=_CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise ProviderError(f"the ID token is invalid: {error}") from error
        found: dict[str, Any] = dict(claims)
        if not hmac.compare_digest(str(found.get("nonce", "")).encode(), login.nonce.encode()):
            raise ProviderError("the ID token belongs to another login: its nonce differs; log in again")
        audience = found.get("aud")
        if isinstance(audience, list) and len(audience) > 1 and found.get("azp") != self._settings.client_id:
            raise ProviderError(
                f"the ID token was issued for another client: its azp is {found.get('azp')!r}, not "
                f"{self._settings.client_id!r}"
            )
        return found

    async def _key(self, kid: str) -> Any:
        """Return a published signing key; an unknown id refetches the keys, at a limited rate."""
        async with self._key_lock:
            if kid not in self._keys and self._clock() - self._keys_fetched_at >= _MIN_KEY_FETCH_SECONDS:
                found = await self._request_json("GET", (await self._discover())["jwks_uri"])
                self._keys_fetched_at = self._clock()
                self._keys = self._parse_keys(found)
        key = self._keys.get(kid)
        if key is None and kid == "" and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None:
            raise ProviderError(
                f"the ID token is signed with a key that the provider does not publish (kid {kid!r}); if the "
                f"key is new, log in again in {_MIN_KEY_FETCH_SECONDS:.0f} s"
            )
        return key

    def _parse_keys(self, found: dict[str, Any]) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for jwk in found.get("keys") or ():
            try:
                key = self._jwt.PyJWK.from_dict(jwk)
            except (self._jwt.PyJWTError, AttributeError, TypeError, KeyError):
                continue  # A key of an unsupported type cannot sign a token that is accepted here.
            if jwk.get("use", "sig") == "sig" and jwk.get("kty") != "oct":
                keys[str(jwk.get("kid", ""))] = key
        return keys

    async def _discover(self) -> dict[str, Any]:
        """Return the provider's metadata (OpenID Connect Discovery), which is cached for an hour."""
        if self._clock() < self._metadata_expires_at:
            return self._metadata
        issuer = self._settings.issuer
        found = await self._request_json("GET", f"{issuer}/.well-known/openid-configuration")
        if str(found.get("issuer", "")).rstrip("/") != issuer:
            named = (
                f"contains the issuer {found['issuer']!r}" if found.get("issuer") else "contains no issuer"
            )
            raise ProviderError(
                f"oidc.issuer is {issuer!r}, but the provider's metadata {named}; both must be the same URL"
            )
        required = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        missing = [name for name in required if not found.get(name)]
        if missing:
            raise ProviderError(f"the metadata of {issuer} has no {', '.join(missing)}")
        self._metadata, self._metadata_expires_at = found, self._clock() + _METADATA_SECONDS
        return found

    async def _request_json(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(method, url, allow_redirects=False, **more) as response,
            ):
                raw = await response.content.read(_MAX_RESPONSE_BYTES)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProviderError(
                f"the request to {url} failed: {str(error) or 'no response in time'}"
            ) from error
        if status != 200:
            raise ProviderError(f"{self.name} returned HTTP {status} for {url}")
        found = _parse_json(raw, url)
        if not isinstance(found, dict):
            raise ProviderError(f"{self.name} returned no JSON object for {url}")
        return found

    def _callback_url(self, request: web.Request) -> str:
        base = self._authenticator.public_url or f"{request.scheme}://{request.host}"
        return f"{base}/login/oidc/callback"


def _parse_json(raw: bytes, url: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"the response of {url} is not JSON") from error
