"""Sidecar mode: an Envoy next to each backend; a request is split once, at whichever Envoy it enters."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import aiohttp
import pytest

from demo.processes import free_port
from demo.traffic import split_sample
from tests.support.plane import Plane, route
from xds_server.bootstrap import HostPort

pytestmark = pytest.mark.e2e

USERS = 1_000


async def test_a_request_is_split_exactly_once(plane: Plane) -> None:
    plane.start_control_plane(collector=False)
    # A backend accepts only requests from a serve listener, and records the name of its proxy.
    apps = {
        name: plane.start_backend(name, "--require-header=x-shiftplane-served-by") for name in ("v1", "v2")
    }
    serves = {name: HostPort(host="127.0.0.1", port=free_port()) for name in apps}
    plane.apply(
        route(
            ("v1", str(serves["v1"])),
            ("v2", str(serves["v2"])),
            "{canary: {stickiness: {attribute: user.id}, steps: [{setWeight: 30}, {pause: {}}]}}",
        )
    )
    envoys = {}
    for name, app in apps.items():
        host, _, port = app.address.rpartition(":")
        envoys[name] = plane.start_envoy(
            f"sidecar-{name}", serve=serves[name], app=HostPort(host=host, port=int(port))
        )
    plane.until(lambda view: view["step"] is not None and view["step"]["waiting_for"] == "operator")
    assert {proxy["mode"] for proxy in plane.api.get("/v1/proxies")["proxies"]} == {"sidecar"}

    samples = [
        await split_sample(envoy.entry, USERS, 16, headers={"x-shiftplane-served-by": "forged"})
        for envoy in envoys.values()
    ]
    assert [sample.failed for sample in samples] == [0, 0]
    assert samples[0].by_user == samples[1].by_user, "the variant does not depend on the entry"
    assert 0.25 < samples[0].share("v2") < 0.35

    expected = Counter[str]()
    for sample in samples:
        expected.update({str(variant): count for variant, count in sample.by_variant.items()})
    async with aiohttp.ClientSession() as session:
        seen = dict(
            zip(apps, await asyncio.gather(*(_seen(session, app.url) for app in apps.values())), strict=True)
        )
        for name, log in seen.items():
            assert log["by_path"]["/v1/chat/completions"] == expected[name], "each request was split once"
            assert set(log["by_header"]["x-shiftplane-served-by"]) == {f"sidecar-{name}"}, (
                "only through its own serve listener"
            )
            served = envoys[name].stats("http.serve.downstream_rq_total")
            assert served["http.serve.downstream_rq_total"] >= expected[name]
        for app in apps.values():
            async with session.post(f"{app.url}/v1/chat/completions", json={}) as direct:
                assert direct.status == 403, "the serve listener cannot be bypassed"


async def _seen(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/_sim/requests?header=x-shiftplane-served-by&limit=1") as answer:
        return dict(await answer.json())
