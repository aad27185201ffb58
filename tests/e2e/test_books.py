"""The books of a simulated server equal what its Envoy counted and what its client received."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import aiohttp
import pytest

from tests.support.plane import Plane, eventually, route
from tests.support.simulated_apis import PATHS, STREAMED, ask

pytestmark = pytest.mark.e2e

# None of these resets a connection: Envoy sends such a request again, or ends it with a status of its own.
FAULTS = [
    {"mode": "error", "rate": 0.2, "status": 429, "api": ["chat", "messages", "score"]},
    {"mode": "error", "rate": 0.2, "status": 500, "api": ["responses", "embeddings"]},
    {"mode": "html_200", "rate": 0.2},
    {"mode": "stop_early", "rate": 0.2},
    {"mode": "end_mark_only", "rate": 0.2},
]


async def test_books_envoy_and_client_count_the_same(plane: Plane) -> None:
    plane.start_control_plane(collector=False)
    backend = plane.start_backend("v1")
    plane.apply(route(("v1", backend.address)))
    envoy = plane.start_envoy(all_stats=True)
    plane.until(lambda view: view["convergence"]["acked"] == 1)
    rng = random.Random(5)
    plan = [rng.choice(sorted(PATHS)) for _ in range(300)]
    received: Counter[tuple[str, int]] = Counter()
    async with aiohttp.ClientSession(backend.url) as direct:
        async with direct.post("/_sim/faults", json=FAULTS) as response:
            assert response.status == 200
        async with aiohttp.ClientSession(envoy.entry) as session:
            for start in range(0, len(plan), 20):
                part = plan[start : start + 20]
                results = await asyncio.gather(
                    *(ask(session, api, stream=api in STREAMED and rng.random() < 0.5) for api in part)
                )
                for api, got in zip(part, results, strict=True):
                    received[api, got.status] += 1
        async with direct.get("/_sim/books") as response:
            books = await response.json()
    booked: Counter[tuple[str, int]] = Counter()
    outcomes: Counter[str] = Counter()
    for entry in books["entries"]:
        booked[entry["api"], entry["status"]] += entry["count"]
        outcomes[entry["outcome"]] += entry["count"]
    assert booked == received
    assert set(outcomes) == {"ok", "error", "html_200", "stop_early", "end_mark_only"}
    by_status: Counter[int] = Counter()
    for (_, status), count in booked.items():
        by_status[status] += count
    # Envoy counts a request when its stream has ended, which can be after the client has read all of it.
    counted = eventually(
        lambda: envoy.stats("^cluster.chat/v1.upstream_rq_[0-9]+$"),
        lambda stats: sum(stats.values()) >= len(plan),
    )
    assert counted == {f"cluster.chat/v1.upstream_rq_{status}": n for status, n in by_status.items()}
