"""The collector stores exactly the bytes and times of an exchange."""

from __future__ import annotations

import base64
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.plane import BackendProcess, Plane, eventually, route

if TYPE_CHECKING:
    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

CAP = 64 << 10
LIMITS = "{maxRequestSize: 4MiB, timeout: 20s}"
SHADOW = f"{{shadow: {{percentage: 100, limits: {LIMITS}}}}}\n  capture: {{maxBodySize: 64KiB}}"


@pytest.fixture
def captured(plane: Plane) -> tuple[Plane, Envoy, BackendProcess]:
    plane.start_collector(settings="privacy: {redact: []}")  # store bodies unchanged
    plane.start_control_plane()
    old, new = plane.start_backend("v1"), plane.start_backend("v2", "--flavour=b")
    plane.apply(route(("v1", old.address), ("v2", new.address), SHADOW))
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Shadowing" and view["step"]["waiting_for"] != "convergence")
    return plane, envoy, new


async def ask(session: aiohttp.ClientSession, entry: str, body: bytes) -> tuple[str, bytes, float, float]:
    """Return request id, response, and the client's first-byte and total times in milliseconds."""
    began, first = time.perf_counter(), 0.0
    received = b""
    headers = {"content-type": "application/json"}
    async with session.post(f"{entry}/v1/chat/completions", data=body, headers=headers) as answer:
        assert answer.status == 200
        async for chunk, _ in answer.content.iter_chunks():
            first = first or time.perf_counter()
            received += chunk
        done = time.perf_counter()
        return answer.headers["x-request-id"], received, 1000 * (first - began), 1000 * (done - began)


def question(text: str, *, stream: bool) -> bytes:
    document = {
        "model": "chat-large",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 40,
        "stream": stream,
        "seed": 12345678901234567890,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def pairs(plane: Plane) -> list[dict[str, Any]]:
    return list(plane.collector_api.get("/v1/pairs?route=chat&limit=200")["pairs"])


@pytest.mark.quiet
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_bodies_are_exact_and_times_are_the_clients(
    captured: tuple[Plane, Envoy, BackendProcess], stream: bool
) -> None:
    plane, envoy, _ = captured
    sent: dict[str, tuple[bytes, bytes, float, float]] = {}
    async with aiohttp.ClientSession() as session:
        for number in range(15):
            body = question(f"Wie geht's? ÄÖÜ 🦉 {number}", stream=stream)
            request_id, answer, first, total = await ask(session, envoy.entry, body)
            sent[request_id] = (body, answer, first, total)
    eventually(plane.summary, lambda s: bool(s) and s["pairs"] >= 15)
    first_off, total_off = [], []
    for listed in pairs(plane):
        pair = plane.collector_api.get(f"/v1/pairs/{listed['id']}")
        body, answer, first, total = sent[pair["request_id"]]
        primary, shadow = pair["primary"], pair["shadow"]
        assert base64.b64decode(primary["request"]["base64"]) == body
        assert base64.b64decode(shadow["request"]["base64"]) == body, (
            "the request of the user, the same for all legs"
        )
        assert base64.b64decode(primary["response"]["base64"]) == answer
        assert base64.b64decode(shadow["response"]["base64"]) != answer, "the other model responded"
        assert shadow["response"]["truncated"] is False
        assert (primary["variant"], shadow["variant"]) == ("v1", "v2")
        first_off.append(abs(first - pair["comparison"]["primary"]["first_token_ms"]))
        total_off.append(abs(total - pair["comparison"]["primary"]["total_ms"]))
    assert len(first_off) == 15
    assert statistics.median(first_off) < 5, first_off
    assert statistics.median(total_off) < 5, total_off


async def test_bodies_above_the_cap_are_cut_and_say_so(captured: tuple[Plane, Envoy, BackendProcess]) -> None:
    plane, envoy, _ = captured
    body = question("x" * (2 * CAP), stream=False)
    async with aiohttp.ClientSession() as session:
        await ask(session, envoy.entry, body)
    eventually(plane.summary, lambda s: bool(s) and s["pairs"] == 1)
    pair = plane.collector_api.get(f"/v1/pairs/{pairs(plane)[0]['id']}")
    for leg in ("primary", "shadow"):
        request = pair[leg]["request"]
        assert base64.b64decode(request["base64"]) == body[:CAP]
        assert (request["bytes_total"], request["truncated"]) == (len(body), True)


async def test_a_client_that_leaves_is_recorded_as_such(
    captured: tuple[Plane, Envoy, BackendProcess],
) -> None:
    plane, envoy, _ = captured
    url, body = f"{envoy.entry}/v1/chat/completions", question("a long story", stream=True)
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url, data=body, headers={"content-type": "application/json"})
        await answer.content.readany()
        answer.close()
    found = eventually(lambda: pairs(plane), lambda listed: len(listed) == 1)
    pair = plane.collector_api.get(f"/v1/pairs/{found[0]['id']}")
    assert pair["primary"]["client_left"] is True
    assert pair["shadow"]["client_left"] is False
    assert pair["primary"]["complete"] is False
    assert pair["primary"]["response"]["bytes_kept"] > 0, "the part received so far is kept"
    assert pair["shadow"]["complete"] is True
    assert plane.summary()["agreement"]["exact"]["of"] == 0, "a response without its client is not compared"


async def test_a_dead_shadow_is_recorded_as_such(captured: tuple[Plane, Envoy, BackendProcess]) -> None:
    plane, envoy, shadow = captured
    shadow.process.kill()
    async with aiohttp.ClientSession() as session:
        await ask(session, envoy.entry, question("hello", stream=False))
    found = eventually(lambda: pairs(plane), lambda listed: len(listed) == 1)
    pair = plane.collector_api.get(f"/v1/pairs/{found[0]['id']}")
    assert pair["primary"]["status"] == 200
    assert pair["shadow"]["status"] == 503
    assert pair["shadow"]["failure"] == "upstream_connection_failure"
    assert plane.summary()["agreement"]["status"] == {"same": 0, "of": 1}
