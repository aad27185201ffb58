"""Targeting rules in a real Envoy: operators, many values, JWT claims."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.echo import Echo
from tests.support.plane import eventually
from tests.support.users import Users

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

pytestmark = pytest.mark.e2e

SPEC = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  proxies: {{group: chat}}
  match: {{path: {{prefix: /v1/}}}}
  backends:
    - {{name: v1, endpoints: ["{one}"]}}
    - {{name: v2, endpoints: ["{two}"]}}
  stable: v1
  candidate: v2
  attributes:
    a: {{header: x-a}}
{attributes}
  targeting:
    rules:
{rules}
  strategy: {{canary: {{steps: [{{setWeight: 0}}, {{pause: {{}}}}, {{setWeight: 100}}]}}}}
{more}
"""

MANY = [f"org-{n}.with(some)*chars+{n}" for n in range(200)]
CASES: list[tuple[str, list[str], list[str], list[str]]] = [
    ("in", ["x"], ["x"], ["", "X", "xx"]),
    ("in", MANY, [MANY[0], MANY[-1]], ["org-0Xwith(some)*chars+0", "org-200"]),
    ("notIn", ["x", "y"], ["z", "xy"], ["x", "y"]),
    ("startsWith", ["eu-", "us-"], ["eu-west", "us-"], ["ap-eu-", "eu"]),
    ("endsWith", [".com", ".org"], ["a.com", "b.org"], ["acom", "a.com.net"]),
    ("contains", ["be.ta"], ["a be.ta b"], ["be-ta"]),
    ("contains", ["a|b", "c"], ["xa|bx", "c"], ["a", "b"]),
    ("matches", ["v[0-9]+", "beta"], ["v12", "beta"], ["v", "v1x", "xbeta"]),
    ("exists", [], ["anything"], []),
    ("notExists", [], [], ["anything"]),
    ("greaterThan", ["10"], ["11", "200"], ["10", "9", "x"]),
    ("lessOrEqual", ["10"], ["10", "-3"], ["11", "x"]),
    (
        "semverGreaterOrEqual",
        ["2.10.3"],
        ["2.10.3", "v2.11.0", "10.0.0-rc.1"],
        ["2.10.3-rc.1", "2.9.9", "2.10"],
    ),
    ("semverLessThan", ["2.10.3"], ["2.10.3-rc.1", "2.9.9", "0.0.1"], ["2.10.3", "3.0.0"]),
]


def start(plane: Plane, rules: list[dict[str, Any]], attributes: str = "", more: str = "") -> Envoy:
    plane.start_control_plane(collector=False)
    one, two = plane.start_backend("v1").address, plane.start_backend("v2").address
    listed = "\n".join(f"      - {json.dumps(rule)}" for rule in rules)
    plane.apply(SPEC.format(one=one, two=two, rules=listed, attributes=attributes, more=more))
    envoy = plane.start_envoy()
    plane.until(lambda view: bool(view["phase"] == "Paused"))
    return envoy


def test_operators_mean_what_they_say(plane: Plane) -> None:
    """Test every operator, each with its own host, in one snapshot."""
    plane.start_control_plane(collector=False)
    one, two = plane.start_backend("v1").address, plane.start_backend("v2").address
    documents = []
    for number, (op, values, _, _) in enumerate(CASES):
        clause = {"attribute": "a", "op": op, "values": values}
        rule = {"name": "r", "clauses": [clause], "serve": "v2"}
        text = SPEC.format(one=one, two=two, rules=f"      - {json.dumps(rule)}", attributes="", more="")
        documents.append(
            text.replace("name: chat}", f"name: chat-{number}}}").replace(
                "path: {prefix: /v1/}", f'hosts: ["h{number}.test"], path: {{prefix: /v1/}}'
            )
        )
    plane.apply("\n---\n".join(documents))
    envoy = plane.start_envoy()
    users = Users(envoy.entry)
    for number, (op, values, meets, misses) in enumerate(CASES):
        for value in meets:
            answer = users.ask("u", host=f"h{number}.test", x_a=value)
            assert answer.variant == "v2", (
                op,
                values,
                value,
                plane.api.get("/v1/proxies")["proxies"][0]["detail"][:1500],
            )
        for value in misses:
            answer = users.ask("u", host=f"h{number}.test", x_a=value)
            assert answer.variant == "v1", (op, values, value)
        absent = users.ask("u", host=f"h{number}.test").variant
        assert absent == ("v2" if op in {"notIn", "notExists"} else "v1"), op
    assert users.failed == []
    users.close()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=given, capture_output=True, check=True, timeout=20
    ).stdout


def new_key(path: Path) -> Path:
    openssl("genrsa", "-out", str(path), "2048")
    return path


def signed(key: Path, claims: dict[str, Any]) -> str:
    head = b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "k1"}).encode())
    text = f"{head}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(openssl('dgst', '-sha256', '-sign', str(key), given=text.encode()))}"


def keys(key: Path) -> str:
    modulus = openssl("rsa", "-in", str(key), "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
    exponent = b64((65_537).to_bytes(3, "big"))
    known = {"kty": "RSA", "alg": "RS256", "kid": "k1", "n": b64(bytes.fromhex(modulus)), "e": exponent}
    return json.dumps({"keys": [known]})


@pytest.mark.parametrize("fetched", [False, True], ids=["inline", "fetched"])
def test_claims_of_a_token_select_the_variant_and_no_request_is_rejected(
    plane: Plane, tmp_path: Path, fetched: bool
) -> None:
    key, other = new_key(tmp_path / "key.pem"), new_key(tmp_path / "other.pem")
    with Echo({"/keys.json": keys(key).encode()}) as server:
        jwks = {"url": f"http://{server.address}/keys.json"} if fetched else {"inline": keys(key)}
        decided(plane, key, other, jwks)


def decided(plane: Plane, key: Path, other: Path, jwks: dict[str, str]) -> None:
    attributes = "    org: {claim: org.id, provider: main}"
    provider = {"main": {"issuer": "https://id.test", "jwks": jwks}}
    rule = {"name": "acme", "clauses": [{"attribute": "org", "op": "in", "values": ["acme"]}], "serve": "v2"}
    envoy = start(plane, [rule], attributes, f"  jwtProviders: {json.dumps(provider)}")
    users = Users(envoy.entry)
    claims = {"iss": "https://id.test", "sub": "u", "exp": time.time() + 600, "org": {"id": "acme"}}
    good = f"Bearer {signed(key, claims)}"
    eventually(lambda: users.ask("u", authorization=good).variant, lambda v: v == "v2")
    for name, token in {
        "another organisation": signed(key, {**claims, "org": {"id": "other"}}),
        "another key": signed(other, claims),
        "another issuer": signed(key, {**claims, "iss": "https://evil.test"}),
        "over": signed(key, {**claims, "exp": time.time() - 600}),
        "no token": "nonsense",
    }.items():
        answer = users.ask("u", authorization=f"Bearer {token}")
        assert (answer.status, answer.variant) == (200, "v1"), name
    forged = {f"x_shiftplane_claim_chat_org_{suffix}": "acme" for suffix in ("0", "a1b2c3")}
    assert users.ask("u", **forged).variant == "v1"
    assert users.failed == []
    users.close()
