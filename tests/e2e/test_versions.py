"""The same rollout with every supported Envoy version, and with several versions in one group."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from demo.traffic import Traffic, TrafficConfig, split_sample
from tests.support.envoy_versions import WHEELS, binary
from tests.support.guarded import Case, fault, serving_routes
from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.envoy import Envoy

pytestmark = pytest.mark.versions

CANARY = (
    "{canary: {stickiness: {attribute: user.id}, steps: [{setWeight: 30}, {pause: {}}, {setWeight: 100}]}}"
)
SHADOW = "{shadow: {percentage: 100}}\n  capture: {maxBodySize: 64KiB}"
MEBIBYTE = 1 << 20


def renamed(spec: str) -> str:
    """Return the spec with a model name for each backend, so that bodies are buffered and rewritten."""
    return spec.replace("  backends:", "  model: chat-large\n  backends:").replace(
        '"]}', '"], modelNameOverride: chat-large}'
    )


async def until(plane: Plane, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return await asyncio.to_thread(plane.until, holds)


def waits(view: dict[str, Any]) -> bool:
    return bool(view["step"]) and view["step"]["waiting_for"] == "operator"


def in_order(envoy: Envoy) -> None:
    """Check that no update was rejected, no field ignored, and that no script failed."""
    stats = envoy.stats("update_rejected|dynamic_unknown_fields|no_cluster|no_route|lua.errors")
    assert any(name.endswith("lds.update_rejected") for name in stats), stats
    assert {name: value for name, value in stats.items() if value} == {}


@pytest.mark.parametrize("minor", WHEELS)
async def test_shift_mirror_capture_and_rollback(plane: Plane, minor: int) -> None:
    plane.start_collector()
    plane.start_control_plane()
    old, new = plane.start_backend("v1"), plane.start_backend("v2", "--flavour=b")
    backends = (("v1", old.address), ("v2", new.address))
    plane.apply(route(backends[0]))
    envoy = plane.start_envoy(binary=binary(minor))
    traffic = Traffic(TrafficConfig(url=envoy.entry, users=50, rate=20, duration=None))
    users = asyncio.create_task(traffic.run())

    plane.apply(route(*backends, CANARY))
    await until(plane, waits)
    sample = await split_sample(envoy.entry, 1_000, 16)
    assert sample.failed == 0
    assert 0.25 < sample.share("v2") < 0.35
    await asyncio.to_thread(plane.api.post, "/v1/routes/chat/abort", {"actor": "test", "reason": "no"})
    await until(
        plane, lambda view: view["weights"] == {"v1": 100, "v2": 0} and view["convergence"]["acked"] == 1
    )
    assert (await split_sample(envoy.entry, 200, 16)).by_variant == {"v1": 200}

    plane.apply(renamed(route(*backends, SHADOW)))
    await until(plane, lambda v: v["phase"] == "Shadowing" and v["step"]["waiting_for"] != "convergence")
    summary = await asyncio.to_thread(
        eventually, plane.summary, lambda found: bool(found) and found["pairs"] >= 10
    )
    assert summary["agreement"]["status"]["same"] == summary["agreement"]["status"]["of"] > 0
    for mebibytes in (3, 30):
        assert await upload(envoy, mebibytes * MEBIBYTE) == 200, "rewritten bodies may be large"

    await asyncio.to_thread(plane.api.post, "/v1/routes/chat/abort", {"actor": "test", "reason": "no"})
    await until(plane, lambda view: view["mirror_percent"] == 0 and view["convergence"]["acked"] == 1)
    traffic.stop()
    result = await users
    assert result.failed == 0, result
    assert result.ok == result.sent > 20
    in_order(envoy)
    (proxy,) = plane.api.get("/v1/proxies")["proxies"]
    assert (proxy["status"], proxy["envoy_version"]) == ("SYNCED", WHEELS[minor])
    assert bool(proxy["reduced"]) == (minor < 38)


async def upload(envoy: Envoy, size: int) -> int:
    body = (
        b'{"messages":[{"role":"user","content":"' + b"x" * size + b'"}],"model":"whatever","max_tokens":1}'
    )
    headers = {"content-type": "application/json"}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
        session.post(f"{envoy.entry}/v1/chat/completions", data=io.BytesIO(body), headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
async def test_two_versions_in_one_group(plane: Plane, delta: bool) -> None:
    plane.start_collector()
    plane.start_control_plane()
    old, new = plane.start_backend("v1"), plane.start_backend("v2")
    backends = (("v1", old.address), ("v2", new.address))
    plane.apply(route(backends[0]))
    envoys = [
        plane.start_envoy(f"envoy-{minor}", binary=binary(minor), delta=delta) for minor in (36, 37, 40)
    ]
    users = [Traffic(TrafficConfig(url=envoy.entry, users=50, rate=10, duration=None)) for envoy in envoys]
    asking = [asyncio.create_task(traffic.run()) for traffic in users]
    for spec in (renamed(route(*backends, SHADOW)), route(*backends, CANARY)):
        plane.apply(spec)
        view = await until(plane, lambda view: view["convergence"]["acked"] == 3)
        assert (view["convergence"]["connected"], view["convergence"]["nacked"]) == (3, 0)
    await until(plane, waits)
    samples = [await split_sample(envoy.entry, 500, 16) for envoy in envoys]
    assert [sample.failed for sample in samples] == [0] * 3
    assert samples[0].by_user == samples[1].by_user == samples[2].by_user, (
        "the variant of a user does not depend on the version"
    )
    assert set(samples[0].by_variant) == {"v1", "v2"}
    for traffic in users:
        traffic.stop()
    for result in await asyncio.gather(*asking):
        assert result.failed == 0, result
    for envoy in envoys:
        in_order(envoy)
    proxies = {proxy["id"]: proxy for proxy in plane.api.get("/v1/proxies")["proxies"]}
    assert {proxy["status"] for proxy in proxies.values()} == {"SYNCED"}
    assert [bool(proxies[f"envoy-{minor}"]["reduced"]) for minor in (36, 37, 40)] == [True, True, False]


GUARDS: Final = (
    ("unknown-model", False, 37),
    ("error-200", False, 37),
    ("no-end-mark", True, 38),
    ("hang", False, 37),
)
"""A fault, whether it is one of streams, and the first version that counts it."""


def rolled_back(view: dict[str, Any]) -> bool:
    return view["phase"] in {"RollingBack", "RolledBack"}


async def test_each_version_guards_what_it_counts(plane: Plane) -> None:
    cases = [
        Case(
            name=f"{name}-{minor}",
            faults={"v2": fault(name.replace("-", "_"))},
            stream=stream,
            envoy=f"envoy-{minor}",
            rate=8.0,
        )
        for name, stream, _ in GUARDS
        for minor in WHEELS
    ]
    mixed = Case(name="mixed", faults={"v2": fault("unknown_model")})
    guarded = {f"{name}-{minor}" for name, _, first in GUARDS for minor in WHEELS if minor >= first}
    binaries = {f"envoy-{minor}": binary(minor) for minor in WHEELS}
    async with serving_routes(plane, *cases, mixed, binaries=binaries) as routes:
        await routes.apply()
        views = await routes.until(rolled_back, [*guarded, "mixed"])
        assert {name: view["message"] for name, view in views.items() if not rolled_back(view)} == {}
        views = await routes.views()
    kept = {name for name, view in views.items() if (view["phase"], view["weights"]["v2"]) == ("Paused", 50)}
    assert kept == {case.name for case in cases} - guarded
    assert all(routes.served[name, "v2", False] >= 10 for name in kept if not name.startswith("hang"))
    assert {name: views[name]["costs"] for name in kept if name.endswith("-36")} == {
        f"{name}-36": [] for name, _, _ in GUARDS
    }
