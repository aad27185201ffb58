"""Each leg requests the model name of its backend; no other byte of a request changes."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.plane import BackendProcess, Plane, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

SPEC = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  proxies: {{group: chat}}
  model: chat-large
  backends:
    - {{name: v1, endpoints: ["{old}"], modelNameOverride: 'llama "3.1" 8b'}}
    - {{name: v2, endpoints: ["{new}"]}}
  stable: v1
  candidate: v2
  strategy: {{shadow: {{percentage: 100}}}}
"""
OLD, NEW = b'"llama \\"3.1\\" 8b"', b'"chat-large"'
ODD = (
    '{ "messages" :[{"role":"user","content":"say \\"model\\": \\"x\\" \u00e4\U0001f989"}],\n'
    '  "extra": {"model": "inner", "n": 12345678901234567890, "f": 0.70},'
    '\t"model"  :  "whatever \\"quoted\\"" ,"temperature":0.0}  \n'
).encode()


@pytest.fixture
def rewritten(plane: Plane) -> tuple[Envoy, BackendProcess, BackendProcess]:
    plane.start_control_plane(collector=False)
    old = plane.start_backend("v1", model='llama "3.1" 8b')
    new = plane.start_backend("v2", model="chat-large")
    plane.apply(SPEC.format(old=old.address, new=new.address))
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Shadowing" and view["convergence"]["acked"] == 1)
    return envoy, old, new


async def seen(backend: BackendProcess, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(400):
            async with session.get(f"{backend.url}/_sim/requests?limit=50") as answer:
                last = (await answer.json())["last"]
            found = [entry for entry in last if entry["path"] == "/v1/chat/completions"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
    raise AssertionError(found)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def post(envoy: Envoy, body: Any, **headers: str) -> int:
    async with aiohttp.ClientSession() as session:
        url = f"{envoy.entry}/v1/chat/completions"
        sent = {"content-type": "application/json", **headers}
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with session.post(url, data=data, headers=sent) as answer:
            await answer.read()
            return answer.status


async def test_the_name_changes_and_nothing_else(
    rewritten: tuple[Envoy, BackendProcess, BackendProcess],
) -> None:
    envoy, old, new = rewritten
    assert await post(envoy, ODD) == 200
    given = b'"whatever \\"quoted\\""'
    for backend, name in ((old, OLD), (new, NEW)):
        (request,) = await seen(backend, 1)
        assert request["body_sha256"] == digest(ODD.replace(given, name)), backend
        assert request["body_bytes"] == len(ODD.replace(given, name))


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 7):
        yield body[start : start + 7]


async def test_a_body_in_chunks_is_rewritten_too(
    rewritten: tuple[Envoy, BackendProcess, BackendProcess],
) -> None:
    envoy, old, new = rewritten
    assert await post(envoy, chunked(ODD)) == 200
    (request,) = await seen(old, 1)
    assert request["body_sha256"] == digest(ODD.replace(b'"whatever \\"quoted\\""', OLD))
    assert await post(envoy, ODD) == 200
    assert len(await seen(new, 1)) == 1, "a request without content-length is not mirrored"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"model=whatever", {"content-type": "application/x-www-form-urlencoded"}),
        (gzip.compress(ODD), {"content-encoding": "gzip"}),
        (b"[1, 2, 3]", {}),
        (b'{"model": 7}', {}),
        (b'{"mod', {}),
        (b'{"a": 1}', {}),
        (b"", {}),
    ],
    ids=["form", "gzip", "list", "number", "cut", "none", "empty"],
)
async def test_what_cannot_be_rewritten_passes_untouched(
    rewritten: tuple[Envoy, BackendProcess, BackendProcess], body: bytes, headers: dict[str, str]
) -> None:
    envoy, old, _ = rewritten
    assert 400 <= await post(envoy, body, **headers) < 500, "the response of the backend"
    (request,) = await seen(old, 1)
    assert request["body_sha256"] == digest(body)


async def test_requests_without_a_body_pass(rewritten: tuple[Envoy, BackendProcess, BackendProcess]) -> None:
    envoy, _, _ = rewritten
    async with aiohttp.ClientSession() as session, session.get(f"{envoy.entry}/v1/models") as answer:
        assert answer.status == 200
        assert (await answer.json())["data"][0]["id"] == 'llama "3.1" 8b'


async def test_a_large_body_is_rewritten(rewritten: tuple[Envoy, BackendProcess, BackendProcess]) -> None:
    envoy, old, new = rewritten
    body = b'{"messages":[{"role":"user","content":"' + b"x" * (6 << 20) + b'"}],"model":"m","max_tokens":1}'
    assert await post(envoy, body) == 200
    for backend, name in ((old, OLD), (new, NEW)):
        (request,) = await seen(backend, 1)
        assert request["body_sha256"] == digest(body.replace(b'"m"', name))


async def test_scripts_had_no_error(rewritten: tuple[Envoy, BackendProcess, BackendProcess]) -> None:
    envoy, _, _ = rewritten
    for body in (ODD, b"", b"[]", b'"text"'):
        await post(envoy, body)
    errors = eventually(lambda: envoy.stats("lua.errors"), bool)
    assert set(errors.values()) == {0}
