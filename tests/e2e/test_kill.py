"""A kill survives restarts, stops mirroring and capture too, and applies to proxies that start later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.plane import eventually, route
from tests.support.users import Users

if TYPE_CHECKING:
    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

pytestmark = pytest.mark.e2e

CANARY = "{canary: {steps: [{setWeight: 100}, {pause: {}}]}}"


def command(plane: Plane, name: str) -> None:
    plane.api.post(f"/v1/routes/chat/{name}", {"actor": "ada", "reason": "v2 leaks names"})


def variant(envoy: Envoy) -> str:
    users = Users(envoy.entry)
    found = users.ask("u").variant
    users.close()
    assert users.failed == []
    return found


def test_it_outlives_restarts_of_both_sides(plane: Plane) -> None:
    control = plane.start_control_plane(collector=False)
    one, two = (plane.start_backend(name).address for name in ("v1", "v2"))
    plane.apply(route(("v1", one), ("v2", two), CANARY))
    envoy = plane.start_envoy()
    plane.until(lambda view: bool(view["phase"] == "Paused"))
    eventually(lambda: variant(envoy), lambda found: found == "v2")
    command(plane, "kill")
    eventually(lambda: variant(envoy), lambda found: found == "v1", within=2)
    control.kill()
    assert variant(envoy) == "v1", "the proxy keeps the kill without a control plane"
    plane.start_control_plane(collector=False)
    view = plane.until(lambda view: bool(view["convergence"]["acked"] == 1))
    assert view["phase"] == "Killed"
    assert (view["kill"]["actor"], view["kill"]["reason"]) == ("ada", "v2 leaks names")
    assert variant(envoy) == "v1"
    for number in range(3):
        late = plane.start_envoy(f"late-{number}")
        assert variant(late) == "v1", "from the first request on"
    command(plane, "unkill")
    eventually(lambda: variant(envoy), lambda found: found == "v2", within=2)
    eventually(lambda: variant(late), lambda found: found == "v2", within=2)


def test_copies_and_capture_stop_with_it(plane: Plane) -> None:
    plane.start_collector()
    plane.start_control_plane()
    one, two = (plane.start_backend(name).address for name in ("v1", "v2"))
    plane.apply(route(("v1", one), ("v2", two), "{shadow: {percentage: 100}}"))
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Shadowing" and view["convergence"]["acked"] == 1)
    users = Users(envoy.entry)

    def copies() -> int:
        return envoy.stats("^cluster.chat/v2/shadow.upstream_rq_total$").get(
            "cluster.chat/v2/shadow.upstream_rq_total", 0
        )

    users.variants(20)
    eventually(copies, lambda count: count == 20)
    pairs = eventually(lambda: plane.summary().get("pairs", 0), lambda count: count == 20)
    command(plane, "kill")
    plane.until(lambda view: view["convergence"]["acked"] == 1 and view["message"].startswith("killed"))
    users.variants(20)
    command(plane, "unkill")
    plane.until(lambda view: view["phase"] == "Shadowing" and view["convergence"]["acked"] == 1)
    time.sleep(0.5)  # A request mirrored during the kill would have arrived by now.
    assert (copies(), plane.summary()["pairs"]) == (20, pairs)
    users.variants(5)
    eventually(copies, lambda count: count == 25)
    users.close()
