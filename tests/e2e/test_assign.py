"""`shiftplane assign` predicts the variant that a real Envoy selects, for every user, as weights change."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from demo.processes import free_port
from tests.support.plane import route
from tests.support.raw_http import variants
from tests.support.trial import start_backend
from xds_server.rollout import FULL

if TYPE_CHECKING:
    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

pytestmark = pytest.mark.e2e

MANY = 20_000
SOME = 1_500
AT_ONCE = 32
AB = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  proxies: {{group: chat}}
  backends:
    - {{name: v1, endpoints: ["{where}"]}}
    - {{name: v2, endpoints: ["{where}"]}}
    - {{name: v3, endpoints: ["{where}"]}}
  stable: v1
  attributes: {{user.id: {{header: x-user-id}}}}
  strategy:
    abTest:
      randomizationUnit: user.id
      variants: [{{backend: v2, weight: {v2}}}, {{backend: v3, weight: {v3}}}]
"""


@pytest.fixture
def backend(plane: Plane) -> str:
    """Return the address of a fast backend."""
    port = free_port()
    start_backend(plane, "backend", port, ("--ms=0", "--tokens=1"))
    return f"127.0.0.1:{port}"


async def observed(envoy: Envoy, users: list[str]) -> dict[str, str]:
    """Return the variant that serves each user."""
    return await variants(envoy.entry, users, connections=AT_ONCE)


def predicted(users: list[str], *flags: str) -> dict[str, str]:
    """Return the variant that the command predicts for each user."""
    done = subprocess.run(
        [sys.executable, "-m", "xds_server.cli", "assign", "chat", "-a", "user.id=-", "-o", "json", *flags],
        input="\n".join(users),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)["assignments"]
    return {item["attributes"]["user.id"]: item["variant"] for item in found}


async def test_twenty_thousand_of_twenty_thousand(plane: Plane, backend: str) -> None:
    plane.start_control_plane(collector=False)
    steps = "[{setWeight: 25}, {pause: {}}, {setWeight: 100}]"
    text = route(
        ("v1", backend),
        ("v2", backend),
        f"{{canary: {{stickiness: {{attribute: user.id, salt: s-1}}, steps: {steps}}}}}",
    )
    plane.apply(text)
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Paused" and view["convergence"]["acked"] == 1)
    users = [f"user-{n}" for n in range(MANY)]
    seen = await observed(envoy, users)
    file = plane.folder / "chat.yaml"
    file.write_text(text, encoding="utf-8")
    assert predicted(users, "--spec", str(file), "--weight", "25") == seen
    assert predicted(users, "--server", plane.api.server) == seen
    assert 0.23 < sum(variant == "v2" for variant in seen.values()) / MANY < 0.27


async def test_weights_move_only_whom_they_must(plane: Plane, backend: str) -> None:
    plane.start_control_plane(collector=False)
    chance, users = random.Random(3), [f"user-{n}" for n in range(SOME)]
    before: dict[str, str] = {}
    slots: list[str] = ["v1"] * FULL
    envoy: Envoy | None = None
    for _ in range(6):
        wanted = {"v2": chance.randint(1, 40), "v3": chance.randint(1, 40)}
        plane.apply(AB.format(where=backend, **wanted))
        envoy = envoy or plane.start_envoy()

        def there(view: dict[str, Any], wanted: dict[str, int] = wanted) -> bool:
            at = {name: round(view["weights"].get(name, 0)) for name in wanted} == wanted
            return at and view["convergence"]["acked"] == 1 and view["phase"] == "Progressing"

        view = plane.until(there)
        now = [owner for owner, count in view["splits"]["strategy"] for _ in range(count)]
        gained = sum(max(0, now.count(v) - slots.count(v)) for v in {*now, *slots})
        assert sum(a != b for a, b in zip(slots, now, strict=True)) == gained, "no slot moves without need"
        slots = now

        expected = predicted(users, "--server", plane.api.server)
        seen = await observed(envoy, users)
        assert seen == expected
        moved = sum(before[user] != seen[user] for user in before)
        assert moved <= SOME * (gained / FULL + 0.05)
        before = seen
