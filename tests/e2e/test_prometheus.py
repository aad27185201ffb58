"""A real Prometheus and a real Alertmanager with a real Envoy: equal counts, and alerts that roll back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from demo.processes import ReadyCheck, free_port, start
from tests.support.debian import program
from tests.support.plane import Plane, eventually, route
from tests.support.prometheus import start_prometheus
from tests.support.trial import start_backend

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

CANARY = "{canary: {steps: [{setWeight: 50}, {pause: {}}]}}"
ALARMED = (
    # The guard would find this fault as well, and sometimes before the alarm.
    "analysis: {guards: {failed: Notify}, "
    "alarms: [{match: {alertname: CanaryRegressionDetected, route: chat}}]}"
)


def start_alertmanager(plane: Plane, secret: Path) -> int:
    port, folder = free_port(), plane.folder
    hook = {
        "url": f"http://127.0.0.1:{plane.http}/v1/alarms/alertmanager",
        "send_resolved": True,
        "http_config": {"authorization": {"credentials_file": str(secret)}},
    }
    config = {
        "route": {
            "receiver": "shiftplane",
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "2s",
        },
        "receivers": [{"name": "shiftplane", "webhook_configs": [hook]}],
    }
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command: list[str | Path] = [
        program("prometheus-alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yaml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    ready = ReadyCheck(url=f"http://127.0.0.1:{port}/-/ready")
    plane.processes.append(start("alertmanager", command, folder=folder, ready=ready))
    return port


async def ask(envoy: Envoy, times: int) -> None:
    body = {"model": "m", "messages": []}
    async with aiohttp.ClientSession() as session:
        for number in range(times):
            headers = {"x-user-id": f"u{number}"}
            url = f"{envoy.entry}/v1/chat/completions"
            async with session.post(url, json=body, headers=headers) as answer:
                await answer.read()


def spec(one: int, two: int, more: str) -> str:
    text = route(("v1", f"127.0.0.1:{one}"), ("v2", f"127.0.0.1:{two}"), CANARY, more=more)
    return text.replace("stable:", "retries: 0\n  stable:").replace(
        "endpoints", "passiveHealth: {enabled: false}, endpoints"
    )


async def test_both_ways_give_the_same_counts(plane: Plane, tmp_path: Path) -> None:
    other = Plane(tmp_path / "other")
    other.folder.mkdir()
    try:
        ports = free_port(), free_port()
        for port in ports:
            start_backend(plane, f"arm-{port}", port, ("--errors=0.2", "--seed=4"))
        await asyncio.to_thread(plane.start_control_plane, collector=False)
        await asyncio.to_thread(plane.apply, spec(*ports, ""))
        envoy = await asyncio.to_thread(plane.start_envoy)
        await asyncio.to_thread(plane.until, lambda view: view["weights"]["v2"] == 50)
        prometheus = await asyncio.to_thread(start_prometheus, plane, envoy)
        flags = (f"--prometheus={prometheus}", "--counts=prometheus", "--no-health-checks")
        await asyncio.to_thread(other.start_control_plane, *flags, collector=False)
        await asyncio.to_thread(other.apply, spec(*ports, ""))
        await asyncio.sleep(3)  # A first look at series that all say nothing yet.
        await ask(envoy, 300)

        def costs(of: Plane) -> list[dict[str, Any]]:
            return list(of.view()["costs"])

        def all_there(found: list[dict[str, Any]]) -> bool:
            return bool(sum(int(cost["requests"]) for cost in found) == 300)

        streamed = await asyncio.to_thread(eventually, lambda: costs(plane), all_there)
        scraped = await asyncio.to_thread(eventually, lambda: costs(other), all_there)
        assert scraped == streamed
        assert sum(cost["failed"] for cost in streamed) > 20
        assert sum(cost["completion_tokens"] for cost in streamed) > 1000
    finally:
        other.close()


async def test_an_alert_rule_takes_a_candidate_back(plane: Plane, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("only between us\n", encoding="utf-8")
    ports = free_port(), free_port()
    start_backend(plane, "good", ports[0], ())
    start_backend(plane, "bad", ports[1], ("--errors=0.5",))
    await asyncio.to_thread(plane.start_control_plane, f"--alarm-secret-file={secret}", collector=False)
    await asyncio.to_thread(plane.apply, spec(*ports, ALARMED))
    envoy = await asyncio.to_thread(plane.start_envoy)
    await asyncio.to_thread(plane.until, lambda view: view["weights"]["v2"] == 50)
    alertmanager = await asyncio.to_thread(start_alertmanager, plane, secret)
    await asyncio.to_thread(start_prometheus, plane, envoy, alertmanager=alertmanager)
    asking = asyncio.create_task(ask(envoy, 5_000))
    try:
        view = await asyncio.to_thread(plane.until, lambda view: view["phase"] == "RolledBack", within=60)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert view["outcome"] == "RolledBack"
    assert "alarm: CanaryRegressionDetected: only " in view["message"]
    assert "of the requests to chat/v2 end without a 5xx" in view["message"]
    # Alertmanager repeats a firing alert; the repetitions change nothing.
    events = [event["kind"] for event in plane.view()["events"]]
    assert events.count("alarm") == 1


async def test_a_query_that_answers_badly_takes_back(plane: Plane) -> None:
    ports = free_port(), free_port()
    for port in ports:
        start_backend(plane, f"arm-{port}", port, ())
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--prometheus=http://{address}", "--no-health-checks")
    await asyncio.to_thread(plane.start_control_plane, *flags, collector=False)
    query = 'sum(envoy_llm_requests{cluster="chat/v2"}) or vector(0)'
    metric = f"{{name: many, query: '{query}', threshold: '> 20', consecutiveErrorLimit: 100}}"
    await asyncio.to_thread(plane.apply, spec(*ports, f"analysis: {{interval: 1s, metrics: [{metric}]}}"))
    envoy = await asyncio.to_thread(plane.start_envoy)
    await asyncio.to_thread(plane.until, lambda view: view["weights"]["v2"] == 50)
    await asyncio.to_thread(start_prometheus, plane, envoy, address=address)
    await ask(envoy, 200)
    view = await asyncio.to_thread(plane.until, lambda view: view["phase"] == "RolledBack", within=30)
    assert "failed: many:" in view["message"]
