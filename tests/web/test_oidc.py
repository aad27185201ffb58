"""Logging in through an identity provider: a real small one, and one that lies in every way there is."""

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
from xds_server.web import Authenticator, Provider, load_access
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


class Liar:
    """A provider whose tokens are what a test wants them to be."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.signing: dict[str, Any] = {"key": KEY, "algorithm": "RS256", "headers": {"kid": "1"}}
        self.asked: dict[str, str] = {}
        self.form: dict[str, str] = {}
        self.authorization = ""
        self.about: dict[str, Any] = {}
        self.url = ""
        self.keys_asked = 0

    async def discovery(self, _request: web.Request) -> web.Response:
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }
        return web.json_response(found | self.about)

    async def keys(self, _request: web.Request) -> web.Response:
        self.keys_asked += 1
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
            "nonce": self.asked["nonce"],
            "email": "ada@example.com",
            "groups": ["search"],
        }
        claims = {name: value for name, value in (good | self.claims).items() if value is not None}
        return web.json_response({"id_token": jwt.encode(claims, **self.signing)})


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    found = Liar()
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


async def begin(served: Served, liar: Liar, following: str = "/") -> None:
    async with served.client.get("/login/oidc", params={"next": following}, allow_redirects=False) as answer:
        assert answer.status == 302
        liar.asked = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def come_back(served: Served, **query: str) -> tuple[int, str, str]:
    async with served.client.get("/login/oidc/callback", params=query, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("location", ""), await answer.text()


async def test_a_real_provider_lets_in_whom_it_knows(tmp_path: Path) -> None:
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
    provider = start("provider", command, folder=tmp_path, ready=ready)
    try:
        async with serving(tmp_path, is_open=False, oidc=settings(issuer)) as served:
            await served.apply(GOOD)
            for sub, status in (("ada", 200), ("eve", 403)):
                async with served.client.get("/login") as answer:
                    assert "Log in with Example" in await answer.text()
                async with served.client.get("/login/oidc?next=/audit", allow_redirects=False) as answer:
                    asked = answer.headers["location"]
                async with served.client.session.post(
                    asked, data={"sub": sub}, allow_redirects=False
                ) as answer:
                    back = urlsplit(answer.headers["location"])
                async with served.client.get(f"{back.path}?{back.query}") as answer:
                    text = await answer.text()
                    assert answer.status == status, text
                if status == 200:
                    assert "ada@example.com" in text
                    assert re.search(r"<h1>Audit</h1>", text)
                else:
                    assert "has no role here" in text
            deeds = served.deeds()
    finally:
        provider.stop()
    assert ("ada@example.com", "login", "", "done") in deeds
    assert any(deed[1] == "login" and deed[3] == "refused" for deed in deeds)


async def test_what_is_asked_for_is_bound_to_the_browser_and_used_once(tmp_path: Path, liar: Liar) -> None:
    async with serving(tmp_path, is_open=False, oidc=settings(liar.url)) as served:
        await begin(served, liar, "/proxies")
        assert liar.asked["code_challenge_method"] == "S256"
        assert liar.asked["scope"] == "openid email profile"
        status, location, _ = await come_back(served, code="c", state=liar.asked["state"])
        assert (status, location) == (303, "/proxies")
        assert liar.form["code_verifier"]
        assert liar.authorization.startswith("Basic ")
        assert "client_secret" not in liar.form
        assert (await come_back(served, code="c", state=liar.asked["state"]))[0] == 403, "once"
        await begin(served, liar)
        served.client.session.cookie_jar.clear()
        assert (await come_back(served, code="c", state=liar.asked["state"]))[0] == 403, "another browser"


@pytest.mark.parametrize(
    ("claims", "signing", "words"),
    [
        ({"nonce": "another"}, {}, "of another login"),
        ({"nonce": None}, {}, "of another login"),
        ({"aud": "somebody"}, {}, "cannot be believed"),
        ({"aud": ["shiftplane", "other"]}, {}, "made for another program"),
        ({"iss": "https://evil.example"}, {}, "cannot be believed"),
        ({"exp": 1.0}, {}, "cannot be believed"),
        ({"exp": None}, {}, "cannot be believed"),
        ({}, {"key": OTHER}, "cannot be believed"),
        ({}, {"headers": {"kid": "2"}}, "a key that it does not publish"),
        ({}, {"key": None, "algorithm": "none"}, "which proves nothing here"),
        ({}, {"key": "x" * 40, "algorithm": "HS256"}, "which proves nothing here"),
        ({"groups": ["others"]}, {}, "has no role here"),
        ({"groups": "platformer"}, {}, "has no role here"),
        ({"groups": None, "realm": {"staff": "yes"}}, {}, "has no role here"),
    ],
)
async def test_what_cannot_be_believed_lets_nobody_in(
    tmp_path: Path, liar: Liar, claims: dict[str, Any], signing: dict[str, Any], words: str
) -> None:
    async with serving(tmp_path, is_open=False, oidc=settings(liar.url)) as served:
        liar.claims, liar.signing = claims, liar.signing | signing
        await begin(served, liar)
        status, _, text = await come_back(served, code="c", state=liar.asked["state"])
        assert (status, words in text) == (403, True), text
        async with served.client.get("/", allow_redirects=False) as answer:
            assert answer.status == 302
        assert served.deeds()[-1][1::2] == ("login", "refused")


async def test_many_logins_with_a_new_key_ask_for_keys_once(tmp_path: Path, liar: Liar) -> None:
    async with serving(tmp_path, is_open=False) as served:
        provider = Provider(settings(liar.url), Authenticator(served.access, served.engine, is_open=False))
        tried = await asyncio.gather(*(provider._key("new") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, ProviderError) for one in tried)
    assert liar.keys_asked == 1


async def test_claims_become_grants(tmp_path: Path, liar: Liar) -> None:
    async with serving(tmp_path, is_open=False, oidc=settings(liar.url)) as served:
        liar.claims = {"groups": ["search"], "realm": {"staff": True}, "email": "eve\u0000<b>"}
        await begin(served, liar)
        assert (await come_back(served, code="c", state=liar.asked["state"]))[0] == 303
        async with served.client.get("/") as answer:
            text = await answer.text()
        assert "eve&lt;b&gt;" in text
        assert "operator of team=search, viewer" in text


@pytest.mark.parametrize(
    "about", [{"issuer": "https://evil.example"}, {"token_endpoint": ""}, {"authorization_endpoint": None}]
)
async def test_a_provider_that_is_another_is_not_asked(
    tmp_path: Path, liar: Liar, about: dict[str, Any]
) -> None:
    liar.about = about
    async with serving(tmp_path, is_open=False, oidc=settings(liar.url)) as served:
        async with served.client.get("/login/oidc", allow_redirects=False) as answer:
            assert answer.status == 502
            assert "does not answer" in await answer.text()
        token = served.token(Role.VIEWER)
        async with served.client.post("/login", data={"token": token}, allow_redirects=False) as answer:
            assert answer.status == 303, "tokens open all the same"


def test_the_file_of_access_says_all_that_is_wrong_with_it() -> None:
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
    said = "\n".join(str(problem) for problem in problems)
    for words in (
        "access.yaml:2:3: oidc.issuer",
        "access.yaml:4:3: oidc.clientSecretFile: missing: No such file",
        "access.yaml:5:3: oidc.scopes: openid is missing",
        "access.yaml:7:40: oidc.roles[0].role",
        "access.yaml:8:",
        "did you mean 'session'",
    ):
        assert words in said, said


def test_a_good_file_of_access() -> None:
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
