"""Every query of the dashboard returns data from a Prometheus that scrapes a rollout and a shadow."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from demo.processes import free_port
from tests.support.catalogue import catalogue
from tests.support.debian import program
from tests.support.prometheus import start_prometheus
from tests.support.receiver import receiving
from tests.support.trial import start_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "k8s/monitoring/grafana-dashboard.json").read_text(encoding="utf-8"))
QUIET = (
    # Series that are absent while there is no problem.
    "shiftplane_backend_dead",
    "shiftplane_failed_answers_total",
    "shiftplane_guard_failed",
    "shiftplane_backend_withdrawn",
    "envoy_llm_left",
    "envoy_llm_broken",
    "mirror_collector_unpaired_legs_total",
    "mirror_collector_dropped_total",
    "shiftplane_capture_lost_total",
    "shiftplane_xds_nacks_total",
)
ROUTE = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: chat}}
  match: {{hosts: [{name}]}}
  backends:
    - name: v1
      endpoints: ["127.0.0.1:{old}"]
      passiveHealth: {{enabled: false}}
      price: {{inputPerMillion: 100, outputPerMillion: 300, currency: EUR}}
    - name: v2
      endpoints: ["127.0.0.1:{new}"]
      passiveHealth: {{enabled: false}}
      price: {{inputPerMillion: 100, outputPerMillion: 300, currency: EUR}}
  stable: v1
  candidate: v2
  retries: 0
  strategy: {strategy}
  analysis: {{interval: 1s, dryRun: true, metrics: [{{name: success-rate}}, {{name: duration-p99}}]}}
"""
CANARY = "{canary: {steps: [{setWeight: 50}, {pause: {}}]}}"
SHADOW = "{shadow: {percentage: 100, compare: {noiseBaseline: {percentage: 100}}}}"


def queries() -> Iterator[tuple[str, str, str]]:
    """Yield the title, legend and query of every target of the dashboard, for all routes."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("${route:regex}", ".*").replace("$__rate_interval", "1m")
            assert "$" not in query, panel["title"]
            yield panel["title"], target["legendFormat"], query


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_queries_are_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": query} for n, (_, _, query) in enumerate(queries())]
    document = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    command: list[str | Path] = [
        program("prometheus", "promtool"),
        "check",
        "rules",
        str(tmp_path / "rules.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_queries_are_of_series_that_there_are() -> None:
    known = set()
    for name in ("xds_server", "mirror_collector"):
        for series in catalogue(name):
            known |= {series.name, f"{series.name}_bucket"} if series.type == "histogram" else {series.name}
    named = {
        name
        for _, _, query in queries()
        for name in re.findall(r"\b(?:shiftplane|mirror_collector)_[a-z_]+", query)
    }
    assert named <= known


async def ask(envoy: Envoy, stop: asyncio.Event) -> None:
    async with aiohttp.ClientSession() as session:
        number = 0
        while not stop.is_set():
            number += 1
            for host in ("chat", "probe"):
                headers = {"host": host, "x-user-id": f"u{number}"}
                body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
                url = f"{envoy.entry}/v1/chat/completions"
                async with session.post(url, json=body, headers=headers) as answer:
                    await answer.read()


async def answered(prometheus: str, query: str) -> list[Any]:
    """Return the result of a query without NaN."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{prometheus}/api/v1/query", params={"query": query}) as answer,
    ):
        found = await answer.json()
    assert found["status"] == "success", (query, found)
    return [series for series in found["data"]["result"] if series["value"][1] != "NaN"]


@pytest.mark.e2e
async def test_panels_show_what_runs(plane: Plane) -> None:
    ports = free_port(), free_port()
    for name, port, errors in (("old", ports[0], "0.05"), ("new", ports[1], "0.3")):
        start_backend(plane, name, port, (f"--errors={errors}", "--ms=3"))
    async with receiving() as receiver, receiving() as traces:
        settings = plane.folder / "notify.yaml"
        settings.write_text(
            f"targets: [{{name: ops, type: webhook, url: '{receiver.url}'}}]", encoding="utf-8"
        )
        await asyncio.to_thread(plane.start_collector)
        await asyncio.to_thread(plane.start_control_plane, f"--notify={settings}", f"--otlp={traces.url}")
        chat, probe = (
            ROUTE.format(name=name, old=ports[0], new=ports[1], strategy=strategy)
            for name, strategy in (("chat", CANARY), ("probe", SHADOW))
        )
        for spec in (chat, probe):
            await asyncio.to_thread(plane.apply, spec)
        envoy = await asyncio.to_thread(plane.start_envoy, stats_interval=0.25)
        prometheus = await asyncio.to_thread(start_prometheus, plane, envoy, collector=True)
        await asyncio.to_thread(plane.until, lambda view: view["weights"].get("v2") == 50)
        stop = asyncio.Event()
        asking = asyncio.create_task(ask(envoy, stop))
        while not await answered(prometheus, "shiftplane_xds_streams"):
            await asyncio.sleep(0.2)
        # A change while Prometheus scrapes, so that there is a push to show.
        await asyncio.to_thread(plane.apply, probe.replace("retries: 0", "retries: 1"))
        loud = [one for one in queries() if not any(name in one[2] for name in QUIET)]
        silent: list[Any] = loud
        try:
            async with asyncio.timeout(90):
                while silent:
                    await asyncio.sleep(1)
                    silent = [one for one in loud if not await answered(prometheus, one[2])]
        except TimeoutError:
            pytest.fail(f"these show nothing: {silent}")
        finally:
            stop.set()
            await asking
        for _, _, query in queries():
            await answered(prometheus, query)
        (phase,) = [
            s for s in await answered(prometheus, next(queries())[2]) if s["metric"]["route"] == "chat"
        ]
        assert phase["metric"]["phase"] == plane.view()["phase"]
        spans = [
            span
            for message in traces.messages
            for span in message["resourceSpans"][0]["scopeSpans"][0]["spans"]
        ]
        followed = [span for span in spans if span["name"] == "converge"]
        began = {span["traceId"] for span in spans if "parentSpanId" not in span}
        assert followed
        assert {span["traceId"] for span in followed} <= began
