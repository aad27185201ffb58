"""Cells with a real Envoy: each user of a sticky split is counted in one cell, and one user moves no one."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.plane import eventually, route
from xds_server import ir
from xds_server.plan.assignment import slot_of
from xds_server.rollout import cell_of

if TYPE_CHECKING:
    from tests.support.envoy import Envoy
    from tests.support.plane import BackendProcess, Plane

pytestmark = pytest.mark.e2e

STICKY = ir.Stickiness(header="x-user-id", salt="cells")
SERIES = re.compile(r"^envoy_llm_cell\{(.*)\} (\d+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
CANARY = "{canary: {stickiness: {attribute: user.id, salt: cells}, steps: [{setWeight: %d}, {pause: {}}]}}"


def slot(user: str) -> int:
    found, _ = slot_of(STICKY, {"x-user-id": user})
    assert found is not None
    return found


def by_cell(envoy: Envoy) -> Counter[tuple[str, str]]:
    """Return the requests that Envoy counted, by cluster and cell."""
    found: Counter[tuple[str, str]] = Counter()
    for labels, value in SERIES.findall(envoy.get("/stats/prometheus?filter=llm")):
        known = dict(LABEL.findall(labels))
        found[known["cluster"], known["cell"]] += int(value)
    return found


def start(plane: Plane, weight: int, more: str = "") -> tuple[Envoy, BackendProcess]:
    plane.start_control_plane(collector=False)
    one, two = plane.start_backend("v1"), plane.start_backend("v2")
    plane.apply(route(("v1", one.address), ("v2", two.address), CANARY % weight, more))
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Paused" and view["convergence"]["acked"] == 1)
    return envoy, two


async def send(envoy: Envoy, user: str, *, model: str = "chat-large", **headers: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 2}
    sent = {"x-user-id": user, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{envoy.entry}/v1/chat/completions", json=body, headers=sent) as answer,
    ):
        await answer.read()
        return answer.status


@pytest.mark.parametrize("weight", [5, 50])
async def test_every_request_is_counted_in_the_cell_of_its_user(plane: Plane, weight: int) -> None:
    envoy, _ = start(plane, weight)
    users = [f"user-{n}" for n in range(150)]
    for at in range(0, len(users), 25):
        # What clients send as a cell does not count.
        await asyncio.gather(*(send(envoy, user, x_shiftplane_cell="99") for user in users[at : at + 25]))
    variant = {user: "chat/v2" if slot(user) < 100 * weight else "chat/v1" for user in users}
    expected = Counter((variant[user], str(cell_of(slot(user)))) for user in users)
    assert eventually(lambda: by_cell(envoy), lambda found: found.total() >= len(users)) == expected


async def test_a_split_without_stickiness_has_no_cells(plane: Plane) -> None:
    plane.start_control_plane(collector=False)
    one, two = plane.start_backend("v1"), plane.start_backend("v2")
    plane.apply(
        route(("v1", one.address), ("v2", two.address), "{canary: {steps: [{setWeight: 50}, {pause: {}}]}}")
    )
    envoy = plane.start_envoy()
    plane.until(lambda view: view["phase"] == "Paused" and view["convergence"]["acked"] == 1)
    for _ in range(10):
        await send(envoy, "someone", x_shiftplane_cell="7")
    eventually(lambda: envoy.get("/stats?filter=llm.requests"), lambda found: "outcome" in found)
    assert by_cell(envoy) == {}


async def test_one_user_who_repeats_a_bad_request_causes_no_rollback(plane: Plane) -> None:
    envoy, _ = start(plane, 50, "analysis: {interval: 1s}")
    bad = next(f"bad-{n}" for n in range(100) if slot(f"bad-{n}") < 5_000)
    users = [f"user-{n}" for n in range(100)]
    for _ in range(15):
        await asyncio.gather(
            *(send(envoy, user) for user in users),
            *(send(envoy, bad, model="no-such-model") for _ in range(60)),
        )
        await asyncio.sleep(0.5)
    # Over requests, the evidence is overwhelming: half of the candidate's fail, and none of the others.
    view = plane.until(lambda view: "random groups of users" in json.dumps(view["analysis"]))
    assert view["phase"] == "Paused", view["message"]


async def test_many_users_with_rejected_requests_are_moved(plane: Plane) -> None:
    envoy, _ = start(plane, 50, "analysis: {interval: 1s}")
    users = [f"user-{n}" for n in range(100)]
    for at in range(0, len(users), 20):
        await asyncio.gather(
            *(
                send(envoy, user, model="no-such-model" if slot(user) < 5_000 else "chat-large")
                for user in users[at : at + 20]
            )
        )
        await asyncio.sleep(1.0)
    view = plane.until(lambda view: view["phase"] in {"RollingBack", "RolledBack"}, within=15)
    assert "rejected" in view["message"]
