"""No request or long stream fails while a rollout progresses, rolls back, switches, or is killed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from demo.traffic import Traffic, TrafficConfig
from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

STEPS = "[{setWeight: 10}, {pause: {}}, {setWeight: 50}, {pause: {}}, {setWeight: 100}]"
CANARY = f"{{canary: {{stickiness: {{attribute: user.id}}, steps: {STEPS}}}}}"
BLUE_GREEN = "{blueGreen: {keepWarm: 1h}}"


class Scene:
    """A control plane, a proxy and two backends whose long responses take more than a second."""

    def __init__(self, plane: Plane, strategy: str) -> None:
        plane.start_control_plane(collector=False)
        backends = [(name, plane.start_backend(name, "--inter-token=6ms").address) for name in ("v1", "v2")]
        plane.apply(route(backends[0], backends[1], strategy))
        self.plane = plane
        self.envoy: Envoy = plane.start_envoy()

    async def act(self, command: str, **body: Any) -> None:
        sent = {"actor": "test", "reason": "the test", **body}
        await asyncio.to_thread(self.plane.api.post, f"/v1/routes/chat/{command}", sent)

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        def settled(view: dict[str, Any]) -> bool:
            convergence = view["convergence"]
            return holds(view) and convergence["acked"] == convergence["connected"] == 1

        await asyncio.to_thread(eventually, self.plane.view, settled)


class Streams:
    """Continuous long streams; each records its variant and its outcome."""

    def __init__(self, envoy: Envoy) -> None:
        self._envoy = envoy
        self._over = False
        self.begun: list[str] = []
        self.broken: list[str] = []

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(self._ask(session, n) for n in range(6)))

    def stop(self) -> None:
        self._over = True

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        turn = 0
        while not self._over:
            turn += 1
            body = {
                "model": "chat-large",
                "stream": True,
                "max_tokens": 200,
                "messages": [{"role": "user", "content": "tell me a long story"}],
            }
            headers = {"x-user-id": f"stream-{number}-{turn}"}
            url = f"{self._envoy.entry}/v1/chat/completions"
            async with session.post(url, json=body, headers=headers) as answer:
                variant = answer.headers.get("x-shiftplane-variant", "")
                self.begun.append(variant)
                text = (await answer.read()).decode()
            events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
            whole = answer.status == 200 and events and events[-1] == "[DONE]"
            answers = {json.loads(event)["id"] for event in events[:-1]} if whole else set()
            if len(answers) != 1:
                self.broken.append(f"{variant}: {answer.status} {answers} {text[-80:]!r}")


async def run_story(scene: Scene, story: Callable[[], Any]) -> Streams:
    """Send requests while `story` runs, and check that none fails."""
    traffic, streams = (
        Traffic(TrafficConfig(url=scene.envoy.entry, rate=60, duration=None)),
        Streams(scene.envoy),
    )
    users = asyncio.create_task(traffic.run())
    talking = asyncio.create_task(streams.run())
    await asyncio.sleep(0.5)
    await story()
    await asyncio.sleep(0.5)
    traffic.stop()
    streams.stop()
    result = await users
    await talking
    assert result.failed == 0, result
    assert result.ok > 60
    assert streams.broken == []
    return streams


async def test_a_canary_to_its_end(plane: Plane) -> None:
    scene = await asyncio.to_thread(Scene, plane, CANARY)

    async def story() -> None:
        for weight in (10, 50):
            await scene.until(lambda v, w=weight: v["weights"]["v2"] == w and v["phase"] == "Paused")  # type: ignore[misc]
            await asyncio.sleep(0.7)
            await scene.act("promote")
        await scene.until(lambda view: bool(view["phase"] == "Healthy"))

    streams = await run_story(scene, story)
    assert set(streams.begun) == {"v1", "v2"}


async def test_a_rollback_at_half(plane: Plane) -> None:
    scene = await asyncio.to_thread(Scene, plane, CANARY)

    async def story() -> None:
        await scene.until(lambda view: bool(view["phase"] == "Paused"))
        await scene.act("promote")
        await scene.until(lambda view: view["weights"]["v2"] == 50 and view["phase"] == "Paused")
        await asyncio.sleep(0.7)
        await scene.act("abort")
        await scene.until(lambda view: bool(view["phase"] == "RolledBack"))

    await run_story(scene, story)


async def test_a_blue_green_switch_and_its_undo(plane: Plane) -> None:
    scene = await asyncio.to_thread(Scene, plane, BLUE_GREEN)

    async def story() -> None:
        await scene.until(lambda view: bool(view["phase"] == "Paused"))
        await scene.act("promote")
        await scene.until(lambda view: bool(view["phase"] == "Healthy"))
        await asyncio.sleep(0.7)
        await scene.act("undo")
        await scene.until(lambda view: bool(view["phase"] == "RolledBack"))

    streams = await run_story(scene, story)
    assert set(streams.begun) == {"v1", "v2"}


async def test_a_kill_and_its_end(plane: Plane) -> None:
    scene = await asyncio.to_thread(Scene, plane, CANARY)

    async def story() -> None:
        await scene.until(lambda view: bool(view["phase"] == "Paused"))
        await scene.act("promote", full=True)
        await scene.until(lambda view: bool(view["phase"] == "Healthy"))
        await asyncio.sleep(0.5)
        for _ in range(3):
            await scene.act("kill")
            await scene.until(lambda view: bool(view["phase"] == "Killed"))
            await asyncio.sleep(0.4)
            await scene.act("unkill")
            await scene.until(lambda view: bool(view["phase"] == "Healthy"))
            await asyncio.sleep(0.4)

    streams = await run_story(scene, story)
    assert set(streams.begun) == {"v1", "v2"}
