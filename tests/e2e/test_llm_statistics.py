"""Envoy's counts of requests and tokens equal those of the backends, and counting changes no response."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.e2e

REQUESTS = 2_000
LARGE = 20_000_000


class Backend:
    """A model server that counts its own requests and tokens."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.address = ""
        self.rng = random.Random(5)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked: dict[str, Any] = await request.json()
        kind = asked["kind"]
        self.counts[kind] += 1
        tokens = self.rng.randrange(1, 300)
        usage = {"prompt_tokens": self.rng.randrange(1, 50), "completion_tokens": tokens}
        if kind == "error":
            return web.json_response({"error": "on purpose"}, status=500)
        if kind == "bad":
            return web.json_response({"error": "too long"}, status=400)
        if kind == "plain":
            self.count_tokens(usage)
            return web.json_response({"choices": [], "usage": usage})
        if kind == "charset":
            self.count_tokens(usage)
            body = json.dumps({"usage": usage}).encode()
            return web.Response(body=body, headers={"content-type": "application/json; charset=utf-8"})
        if kind == "no-usage":
            return web.json_response({"choices": []})
        if kind == "broken-json":
            return web.Response(body=b'{"choices": [', headers={"content-type": "application/json"})
        if kind == "large":
            return web.json_response({"data": "x" * LARGE, "usage": usage})
        return await self.stream(request, kind, usage)

    async def stream(self, request: web.Request, kind: str, usage: dict[str, int]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for _ in range(3):
            chunk = {
                "object": "chat.completion.chunk",
                "choices": [{"delta": {"content": "a"}}],
                "usage": None,
            }
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        if kind == "large-stream":
            await response.write(b'data: {"choices": "' + b"x" * LARGE + b'"}\n\n')
        if kind == "cut" and request.transport is not None:
            request.transport.close()
            return response
        if kind == "stream-usage":
            self.count_tokens(usage)
            await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    def count_tokens(self, usage: dict[str, int]) -> None:
        self.counts["metered"] += 1
        self.counts["prompt_tokens"] += usage["prompt_tokens"]
        self.counts["completion_tokens"] += usage["completion_tokens"]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    found = Backend()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", found.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, entry: str, kind: str) -> tuple[int, int]:
    """Return status and size of a response; the size of a broken one is -1."""
    try:
        async with session.post(f"{entry}/v1/chat/completions", json={"kind": kind}) as answer:
            return answer.status, len(await answer.read())
    except aiohttp.ClientPayloadError:
        return 200, -1


KINDS = {
    "plain": 6,
    "charset": 2,
    "stream-usage": 6,
    "stream": 4,
    "no-usage": 1,
    "broken-json": 1,
    "error": 1,
    "bad": 1,
    "cut": 1,
}


async def test_counts_are_those_of_the_backend_exactly(plane: Plane, backend: Backend) -> None:
    await asyncio.to_thread(plane.start_control_plane, collector=False)
    spec = route(("v1", backend.address)).replace("stable:", "retries: 0\n  stable:")
    await asyncio.to_thread(plane.apply, spec)
    envoy = await asyncio.to_thread(plane.start_envoy)
    kinds = random.Random(1).choices(list(KINDS), list(KINDS.values()), k=REQUESTS)
    limit = asyncio.Semaphore(16)

    async def one(kind: str) -> None:
        async with limit:
            await ask(session, envoy.entry, kind)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(kind) for kind in kinds))
    counts = backend.counts
    assert sum(counts[kind] for kind in KINDS) == REQUESTS

    def cost() -> dict[str, Any]:
        (found,) = plane.view()["costs"] or [{"requests": 0}]
        return dict(found)

    found = await asyncio.to_thread(eventually, cost, lambda cost: cost["requests"] == REQUESTS)
    assert found["failed"] == counts["error"] + counts["cut"] + counts["broken-json"]
    assert found["prompt_tokens"] == counts["prompt_tokens"]
    assert found["completion_tokens"] == counts["completion_tokens"]
    assert found["metered"] == counts["metered"]
    assert found["unmetered"] == counts["stream"]
    assert found["failures"] == {"invalid": counts["broken-json"]}
    assert found["unread"] == {"shape": counts["no-usage"]}
    assert found["estimated_tokens"] > 0


@pytest.mark.parametrize("kind", ["large", "large-stream"])
async def test_a_long_answer_passes_as_it_is(plane: Plane, backend: Backend, kind: str) -> None:
    await asyncio.to_thread(plane.start_control_plane, collector=False)
    await asyncio.to_thread(plane.apply, route(("v1", backend.address)))
    envoy = await asyncio.to_thread(plane.start_envoy)
    async with aiohttp.ClientSession() as session:
        status, size = await ask(session, envoy.entry, kind)
    assert status == 200
    assert size > LARGE


async def test_the_switch_leaves_answers_alone(plane: Plane, backend: Backend) -> None:
    await asyncio.to_thread(plane.start_control_plane, "--token-statistics=off", collector=False)
    await asyncio.to_thread(plane.apply, route(("v1", backend.address)))
    envoy = await asyncio.to_thread(plane.start_envoy)
    async with aiohttp.ClientSession() as session:
        for _ in range(20):
            assert (await ask(session, envoy.entry, "plain"))[0] == 200

    def cost() -> dict[str, Any]:
        (found,) = plane.view()["costs"] or [{"requests": 0}]
        return dict(found)

    found = await asyncio.to_thread(eventually, cost, lambda cost: cost["requests"] == 20)
    assert (found["metered"], found["completion_tokens"], found["unmetered"]) == (0, 0, 0)
    assert found["unread"] == {"unsupported": 20}


async def test_one_message_of_a_proxy_is_small(plane: Plane, backend: Backend) -> None:
    await asyncio.to_thread(plane.start_control_plane, collector=False)
    canary = "{canary: {steps: [{setWeight: 50}, {pause: {}}]}}"
    spec = route(("v1", backend.address), ("v2", backend.address), canary)
    await asyncio.to_thread(
        plane.apply, spec.replace("endpoints", "healthCheck: {enabled: false}, endpoints")
    )
    envoy = await asyncio.to_thread(plane.start_envoy)
    await asyncio.to_thread(plane.until, lambda view: view["weights"]["v2"] == 50)

    async with aiohttp.ClientSession() as session:
        for kind in ("plain", "stream-usage", "error") * 30:
            await ask(session, envoy.entry, kind)

    def metrics() -> dict[str, float]:
        lines = plane.api.text("/metrics").splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("shiftplane_statistics_"))
        return {name: float(value) for name, value in pairs}

    def enough(metrics: dict[str, float]) -> bool:
        return metrics["shiftplane_statistics_messages_total"] >= 4

    found = await asyncio.to_thread(eventually, metrics, enough)
    mean = found["shiftplane_statistics_bytes_total"] / found["shiftplane_statistics_messages_total"]
    assert mean < 10_000, f"{mean:.0f} bytes a message"
    (v1, v2) = plane.view()["costs"]
    assert v1["requests"] + v2["requests"] == 90


async def test_workers_forward_the_counts_of_their_proxies(plane: Plane, backend: Backend) -> None:
    await asyncio.to_thread(plane.start_control_plane, "--workers=2", collector=False)
    await asyncio.to_thread(plane.apply, route(("v1", backend.address)))
    envoys = [await asyncio.to_thread(plane.start_envoy, f"envoy-{number}") for number in range(3)]
    async with aiohttp.ClientSession() as session:
        for envoy in envoys * 10:
            assert (await ask(session, envoy.entry, "plain"))[0] == 200

    def cost() -> dict[str, Any]:
        (found,) = plane.view()["costs"] or [{"requests": 0}]
        return dict(found)

    found = await asyncio.to_thread(eventually, cost, lambda cost: cost["requests"] == 30)
    assert found["completion_tokens"] == backend.counts["completion_tokens"]


async def test_proxies_with_another_bootstrap_are_named_as_unguarded(plane: Plane, backend: Backend) -> None:
    await asyncio.to_thread(plane.start_control_plane, collector=False)
    await asyncio.to_thread(plane.apply, route(("v1", backend.address)))
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "ours": lambda _config: None,
        "tagless": lambda config: config["stats_sinks"][0]["typed_config"].update(emit_tags_as_labels=False),
        "other-buckets": lambda config: config["stats_config"].pop("histogram_bucket_settings"),
        "summaries": lambda config: config["stats_sinks"][0]["typed_config"].update(
            histogram_emit_mode="SUMMARY"
        ),
    }
    async with aiohttp.ClientSession() as session:
        for name, change in changes.items():
            envoy = await asyncio.to_thread(plane.start_envoy, name, change=change)
            for kind in ("plain", "stream-usage", "error"):
                await ask(session, envoy.entry, kind)

    def complete(view: dict[str, Any]) -> bool:
        return all(name in " ".join(view["unguarded"]) for name in list(changes)[1:])

    found = await asyncio.to_thread(plane.until, complete)
    buckets, tags = found["unguarded"]
    assert buckets.startswith("each of other-buckets, summaries sends histograms with other buckets")
    assert tags.startswith("tagless sends statistics without tags")
    proxies = {proxy["id"]: proxy["reduced"] for proxy in plane.api.get("/v1/proxies")["proxies"]}
    assert {name for name, reduced in proxies.items() if reduced} == {"tagless", "other-buckets", "summaries"}
