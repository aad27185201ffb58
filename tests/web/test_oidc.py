"""Login with an identity provider: a real one, and a fake one with invalid tokens."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

from demo.processes import ReadyCheck, free_port, start
from tests.support.site import GOOD, Served, serving
from xds_server.access.identity import ClaimRule, Grant, Role
from xds_server.web import Authenticator, OidcProvider, load_access
from xds_server.web.oidc import ProviderError
from xds_server.web.settings import Oidc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
RULES = (
    ClaimRule(claim="groups", value="platform", grant=Grant(role=Role.ADMIN)),
    ClaimRule(claim="groups", value="search", grant=Grant(role=Role.OPERATOR, labels=(("team", "search"),))),
    ClaimRule(claim="realm.staff", value="true", grant=Grant(role=Role.VIEWER)),
)


def settings(issuer: str) -> Oidc:
    return Oidc(
        issuer=issuer.rstrip("/"),
        client_id="shiftplane",
        client_secret="a secret",
        label="Example",
        scopes=("openid", "email", "profile"),
        name_claim="email",
        rules=RULES,
    )


class FakeProvider:
    """An identity provider whose metadata and tokens a test can change."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.signing: dict[str, Any] = {"key": KEY, "algorithm": "RS256", "headers": {"kid": "1"}}
        self.query: dict[str, str] = {}
        self.form: dict[str, str] = {}
        self.authorization = ""
        self.metadata: dict[str, Any] = {}
        self.url = ""
        self.key_requests = 0

    async def discovery(self, _request: web.Request) -> web.Response:
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }
        return web.json_response(found | self.metadata)

    async def keys(self, _request: web.Request) -> web.Response:
        self.key_requests += 1
        public = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        return web.json_response({"keys": [{**public, "kid": "1", "use": "sig"}, {"kty": "??"}]})

    async def token(self, request: web.Request) -> web.Response:
        self.form = {name: str(value) for name, value in (await request.post()).items()}
        self.authorization = request.headers.get("authorization", "")
        now = time.time()
        good = {
            "iss": self.url,
            "aud": "shiftplane",
            "sub": "1",
            "iat": now,
            "exp": now + 60,
            "nonce": self.query["nonce"],
            "email": "ada@example.com",
            "groups": ["search"],
        }
        claims = {name: value for name, value in (good | self.claims).items() if value is not None}
        return web.json_response({"id_token": jwt.encode(claims, **self.signing)})


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    found = FakeProvider()
    app = web.Application()
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", found.discovery),
            web.get("/jwks", found.keys),
            web.post("/token", found.token),
        ]
    )
    async with TestServer(app) as server:
        found.url = str(server.make_url("")).rstrip("/")
        yield found


async def start_login(served: Served, provider: FakeProvider, following: str = "/") -> None:
    async with served.client.get(
        "/login/oidc", params={"next": following}, allow_redirects=False
    ) as response:
        assert response.status == 302
        provider.query = {k: v[0] for k, v in parse_qs(urlsplit(response.headers["location"]).query).items()}


async def finish_login(served: Served, **query: str) -> tuple[int, str, str]:
    async with served.client.get("/login/oidc/callback", params=query, allow_redirects=False) as response:
        return response.status, response.headers.get("location", ""), await response.text()


async def test_a_real_provider_logs_in_users_with_a_role(tmp_path: Path) -> None:
    users = [
        {"sub": "ada", "email": "ada@example.com", "groups": ["platform"]},
        {"sub": "eve", "email": "eve@example.com", "groups": ["others"]},
    ]
    issuer = f"http://127.0.0.1:{free_port()}"
    command = [
        str(Path(sys.executable).with_name("oidc-provider-mock")),
        f"--port={issuer.rpartition(':')[2]}",
    ]
    command += [f"--user-claims={json.dumps(user)}" for user in users]
    ready = ReadyCheck(url=f"{issuer}/.well-known/openid-configuration")
    process = start("provider", command, folder=tmp_path, ready=ready)
    try:
        async with serving(tmp_path, is_open=False, oidc=settings(issuer)) as served:
            await served.apply(GOOD)
            for sub, status in (("ada", 200), ("eve", 403)):
                async with served.client.get("/login") as response:
                    assert "Log in with Example" in await response.text()
                async with served.client.get("/login/oidc?next=/audit", allow_redirects=False) as response:
                    authorization_url = response.headers["location"]
                async with served.client.session.post(
                    authorization_url, data={"sub": sub}, allow_redirects=False
                ) as response:
                    back = urlsplit(response.headers["location"])
                async with served.client.get(f"{back.path}?{back.query}") as response:
                    text = await response.text()
                    assert response.status == status, text
                if status == 200:
                    assert "ada@example.com" in text
                    assert re.search(r"<h1>Audit log</h1>", text)
                else:
                    assert "has no role" in text
            events = served.audit_events()
    finally:
        process.stop()
    assert ("ada@example.com", "login", "", "done") in events
    assert any(event[1] == "login" and event[3] == "refused" for event in events)


async def test_a_login_is_bound_to_its_browser_and_finished_once(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, is_open=False, oidc=settings(provider.url)) as served:
        await start_login(served, provider, "/proxies")
        assert provider.query["code_challenge_method"] == "S256"
        assert provider.query["scope"] == "openid email profile"
        status, location, _ = await finish_login(served, code="c", state=provider.query["state"])
        assert (status, location) == (303, "/proxies")
        assert provider.form["code_verifier"]
        assert provider.authorization.startswith("Basic ")
        assert "client_secret" not in provider.form
        assert (await finish_login(served, code="c", state=provider.query["state"]))[0] == 403, "once"
        await start_login(served, provider)
        served.client.session.cookie_jar.clear()
        assert (await finish_login(served, code="c", state=provider.query["state"]))[0] == 403, (
            "another browser"
        )


@pytest.mark.parametrize(
    ("claims", "signing", "message"),
    [
        ({"nonce": "another"}, {}, "belongs to another login"),
        ({"nonce": None}, {}, "belongs to another login"),
        ({"aud": "another"}, {}, "the ID token is invalid"),
        ({"aud": ["shiftplane", "other"]}, {}, "issued for another client"),
        ({"iss": "https://evil.example"}, {}, "the ID token is invalid"),
        ({"exp": 1.0}, {}, "the ID token is invalid"),
        ({"exp": None}, {}, "the ID token is invalid"),
        ({}, {"key": OTHER}, "the ID token is invalid"),
        ({}, {"headers": {"kid": "2"}}, "a key that the provider does not publish"),
        ({}, {"key": None, "algorithm": "none"}, "allowed: RS256"),
        ({}, {"key": "x" * 40, "algorithm": "HS256"}, "allowed: RS256"),
        ({"groups": ["others"]}, {}, "has no role"),
        ({"groups": "platformer"}, {}, "has no role"),
        ({"groups": None, "realm": {"staff": "yes"}}, {}, "has no role"),
    ],
)
async def test_invalid_tokens_and_users_without_role_are_rejected(
    tmp_path: Path, provider: FakeProvider, claims: dict[str, Any], signing: dict[str, Any], message: str
) -> None:
    async with serving(tmp_path, is_open=False, oidc=settings(provider.url)) as served:
        provider.claims, provider.signing = claims, provider.signing | signing
        await start_login(served, provider)
        status, _, text = await finish_login(served, code="c", state=provider.query["state"])
        assert (status, message in text) == (403, True), text
        async with served.client.get("/", allow_redirects=False) as response:
            assert response.status == 302
        assert served.audit_events()[-1][1::2] == ("login", "refused")


async def test_concurrent_logins_with_an_unknown_key_fetch_the_keys_once(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, is_open=False) as served:
        client = OidcProvider(
            settings(provider.url), Authenticator(served.access, served.engine, is_open=False)
        )
        results = await asyncio.gather(*(client._key("new") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, ProviderError) for one in results)
    assert provider.key_requests == 1


async def test_claims_are_mapped_to_grants(tmp_path: Path, provider: FakeProvider) -> None:
    async with serving(tmp_path, is_open=False, oidc=settings(provider.url)) as served:
        provider.claims = {"groups": ["search"], "realm": {"staff": True}, "email": "eve\u0000<b>"}
        await start_login(served, provider)
        assert (await finish_login(served, code="c", state=provider.query["state"]))[0] == 303
        async with served.client.get("/") as response:
            text = await response.text()
        assert "eve&lt;b&gt;" in text
        assert "operator of routes with team=search, viewer" in text


@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example"}, {"token_endpoint": ""}, {"authorization_endpoint": None}]
)
async def test_a_provider_with_invalid_metadata_is_not_used(
    tmp_path: Path, provider: FakeProvider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    async with serving(tmp_path, is_open=False, oidc=settings(provider.url)) as served:
        async with served.client.get("/login/oidc", allow_redirects=False) as response:
            assert response.status == 502
            assert "cannot be used" in await response.text()
        token = served.token(Role.VIEWER)
        async with served.client.post("/login", data={"token": token}, allow_redirects=False) as response:
            assert response.status == 303, "tokens still work"


def test_all_problems_of_an_access_file_are_reported() -> None:
    text = """\
oidc:
  issuer: nonsense
  clientId: shiftplane
  clientSecretFile: missing
  scopes: [email]
  roles:
    - {claim: groups, value: platform, role: boss}
session: {lifetime: 8}
sesion: {}
"""

    def read(name: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", name)

    found, problems = load_access(text, file="access.yaml", read=read)
    assert found is None
    report = "\n".join(str(problem) for problem in problems)
    for message in (
        "access.yaml:2:3: oidc.issuer",
        "access.yaml:4:3: oidc.clientSecretFile: missing: No such file",
        "access.yaml:5:3: oidc.scopes: the scope openid is missing",
        "access.yaml:7:40: oidc.roles[0].role",
        "access.yaml:8:",
        "did you mean 'session'",
    ):
        assert message in report, report


def test_an_empty_client_secret_is_an_error_at_the_start() -> None:
    text = """\
oidc:
  issuer: https://idp.example.com/
  clientId: shiftplane
  clientSecretFile: secret
  roles: [{claim: groups, value: platform, role: admin}]
"""
    found, problems = load_access(text, file="access.yaml", read=lambda _name: " \n")
    assert (found, [str(problem) for problem in problems]) == (
        None,
        ["access.yaml:4:3: oidc.clientSecretFile: secret is empty"],
    )


def test_a_valid_access_file_is_loaded() -> None:
    text = """\
oidc:
  issuer: https://idp.example.com/
  clientId: shiftplane
  clientSecretFile: secret
  nameClaim: preferred_username
  roles:
    - {claim: groups, value: platform, role: admin}
    - {claim: groups, value: search, role: operator, routes: {team: search}}
session: {lifetime: 12h, idle: 30m}
"""
    found, problems = load_access(text, file="x", read=lambda _name: "s\n")
    assert problems == ()
    assert found is not None
    assert (found.limits.lifetime, found.limits.idle) == (43_200.0, 1_800.0)
    assert found.oidc is not None
    assert found.oidc.issuer == "https://idp.example.com"
    assert found.oidc.rules == RULES[:2]
    assert "client_secret" not in repr(found)
