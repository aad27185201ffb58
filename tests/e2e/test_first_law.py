"""No request of a user fails when collector, shadow or control plane die or hang, with a real Envoy."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from demo.traffic import Traffic, TrafficConfig, TrafficSnapshot
from tests.support.plane import BackendProcess, Plane, eventually, route

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

SHADOW = (
    "{shadow: {percentage: 100, compare: {noiseBaseline: {percentage: 100}}, "
    "limits: {maxConcurrentRequests: 8, maxPendingRequests: 4, timeout: 20s}}}"
)
UPLOAD = 16 << 20


@pytest.fixture
def shadowed(plane: Plane) -> tuple[Plane, Envoy, BackendProcess]:
    """Run a route whose every request is mirrored to a candidate."""
    plane.start_collector()
    plane.start_control_plane()
    old, new = plane.start_backend("v1"), plane.start_backend("v2")
    plane.apply(route(("v1", old.address), ("v2", new.address), SHADOW))
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Shadowing" and view["step"]["waiting_for"] != "convergence")
    return plane, envoy, new


async def use(envoy: Envoy, trouble: Callable[[], None], *, seconds: float = 5.0) -> TrafficSnapshot:
    """Send requests for `seconds`, and call `trouble` after the first second."""
    config = TrafficConfig(url=envoy.entry, users=50, rate=30, duration=seconds, request_timeout=10)
    traffic = Traffic(config)
    task = asyncio.create_task(traffic.run())
    await asyncio.sleep(1)
    await asyncio.to_thread(trouble)
    return await task


def check_no_failures(result: TrafficSnapshot) -> None:
    assert result.failed == 0, result
    assert result.held_back == 0, "requests piled up"
    assert result.ok == result.sent > 100


async def test_a_killed_and_a_hung_collector(shadowed: tuple[Plane, Envoy, BackendProcess]) -> None:
    plane, envoy, _ = shadowed
    collector = next(p for p in plane.processes if p.name == "collector")
    check_no_failures(await use(envoy, lambda: collector.signal(signal.SIGSTOP)))
    collector.signal(signal.SIGCONT)
    check_no_failures(await use(envoy, collector.kill))
    plane.until(lambda view: view["capture_lost"].get("collector_unreachable", 0) > 0)


async def test_a_killed_shadow(shadowed: tuple[Plane, Envoy, BackendProcess]) -> None:
    plane, envoy, shadow = shadowed
    check_no_failures(await use(envoy, shadow.process.kill))
    summary = eventually(plane.summary, lambda s: bool(s) and s["pairs"] > 60)
    status = summary["agreement"]["status"]
    assert status["same"] < status["of"], "the failures of a dead shadow are reported"


async def test_a_hung_shadow(shadowed: tuple[Plane, Envoy, BackendProcess]) -> None:
    _, envoy, shadow = shadowed
    check_no_failures(await use(envoy, lambda: shadow.process.signal(signal.SIGSTOP)))
    stats = envoy.stats("cluster.chat/hop.upstream_rq_active")
    assert all(value <= 16 for value in stats.values()), "at most eight requests of each mirror hang"


async def test_a_shadow_that_does_not_read_an_upload(shadowed: tuple[Plane, Envoy, BackendProcess]) -> None:
    plane, envoy, shadow = shadowed
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        async with session.post(
            f"{shadow.url}/_sim/faults", json={"mode": "refuse_read", "rate": 1.0}
        ) as done:
            assert done.status == 200
        image = "data:image/png;base64," + "A" * UPLOAD
        body = {
            "model": "chat-large",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]},
            ],
        }
        raw = json.dumps(body).encode()
        # More uploads than the hop accepts at once: the others must not be mirrored.
        answers = await asyncio.gather(*(_upload(session, envoy.entry, raw) for _ in range(12)))
        assert answers == [200] * 12
        copied = envoy.stats("cluster.chat/hop.upstream_rq_total")
        assert sum(copied.values()) >= 1, "requests were mirrored"
        async with session.post(f"{shadow.url}/_sim/faults", json={"mode": "none"}):
            pass
    assert plane.view()["phase"] == "Shadowing"


async def _upload(session: aiohttp.ClientSession, entry: str, body: bytes) -> int:
    headers = {"content-type": "application/json", "x-user-id": "u"}
    async with session.post(f"{entry}/v1/chat/completions", data=io.BytesIO(body), headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_a_killed_and_a_hung_control_plane(shadowed: tuple[Plane, Envoy, BackendProcess]) -> None:
    plane, envoy, _ = shadowed
    control = next(p for p in plane.processes if p.name == "control-plane")
    check_no_failures(await use(envoy, lambda: control.signal(signal.SIGSTOP)))
    control.signal(signal.SIGCONT)
    check_no_failures(await use(envoy, control.kill))
