"""Twenty times kill -9 at random moments of one rollout: no step is repeated or skipped."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.support.plane import eventually, route
from xds_server.rollout import SetWeight, State, step
from xds_server.store import SqliteStore

if TYPE_CHECKING:
    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

pytestmark = [pytest.mark.e2e, pytest.mark.long]

KILLS = 20
WEIGHTS = [5 * n for n in range(1, 20)]


def weight(envoy: Envoy) -> int:
    """Return the candidate's weight in the configuration of the proxy, in slots."""
    for table in envoy.config()["RoutesConfigDump"].get("dynamic_route_configs", []):
        config = table["route_config"]
        if config["name"] == "entry" and config.get("virtual_hosts"):
            clusters = config["virtual_hosts"][0]["routes"][-1]["route"]["weighted_clusters"]["clusters"]
            return sum(cluster.get("weight", 0) for cluster in clusters if cluster["name"] == "chat/v2")
    return 0


def test_twenty_kills(plane: Plane) -> None:
    chance = random.Random(5)
    steps = ", ".join(f"{{setWeight: {share}}}, {{pause: {{duration: 1s}}}}" for share in WEIGHTS)
    addresses = [plane.start_backend(name).address for name in ("v1", "v2")]
    control = plane.start_control_plane(collector=False)
    text = f"{{canary: {{steps: [{steps}, {{setWeight: 100}}]}}}}"
    plane.apply(route(("v1", addresses[0]), ("v2", addresses[1]), text))
    envoy = plane.start_envoy()
    seen = [weight(envoy)]
    for _ in range(KILLS):
        deadline = time.monotonic() + chance.uniform(0.05, 1.2)
        while time.monotonic() < deadline:
            seen.append(weight(envoy))
        control.kill()
        seen.append(weight(envoy))
        control = plane.start_control_plane(collector=False)
    plane.until(lambda view: bool(view["phase"] == "Healthy"), within=60)
    eventually(lambda: weight(envoy), lambda found: found == 10_000)
    assert all(before <= after for before, after in pairwise(seen)), "never an older snapshot"
    assert set(seen) <= {0, *(100 * share for share in WEIGHTS), 10_000}
    control.stop()
    follow(plane)


def follow(plane: Plane) -> None:
    """Replay the history: the state is the same, and each weight was entered once and in order."""
    store = SqliteStore(plane.folder / "state.sqlite")
    (kept,) = store.load()
    state: State | None = None
    entered: list[int] = []
    for event, at in store.events("chat"):
        before = state
        state, _ = step(state, event, at)
        if before is not None and state.weight != before.weight:
            entered.append(state.weight)
    store.close()
    assert state == kept.state
    wanted = [s.weight for s in kept.state.program.steps if isinstance(s, SetWeight)]
    assert entered == wanted
