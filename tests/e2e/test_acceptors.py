"""Worker processes with real Envoys: one is killed or hangs, no request fails, rollouts continue."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.processes import ProcessError
from demo.traffic import Traffic, TrafficConfig
from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from demo.processes import Process

pytestmark = pytest.mark.e2e

CANARY = "{canary: {steps: [{setWeight: 25}, {pause: {}}, {setWeight: 100}]}}"


def acceptors(control: Process) -> list[int]:
    return [
        int(pid)
        for pid in Path(f"/proc/{control.pid}/task/{control.pid}/children").read_text().split()
        if b"xds_server.xds.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hung"])
async def test_workers_end_and_are_replaced(plane: Plane, signal_number: signal.Signals) -> None:
    control = plane.start_control_plane("--workers=2", collector=False)
    old, new = plane.start_backend("v1"), plane.start_backend("v2")
    plane.apply(route(("v1", old.address), ("v2", new.address), CANARY))
    envoys = [plane.start_envoy(f"envoy-{number}") for number in range(3)]
    view = plane.until(lambda view: view["weights"]["v2"] == 25 and view["convergence"]["acked"] == 3)
    assert view["convergence"]["connected"] == 3
    first = acceptors(control)
    assert len(first) == 2

    traffic = Traffic(TrafficConfig(url=envoys[0].entry, rate=30, duration=None))
    users = asyncio.create_task(traffic.run())
    os.kill(first[0], signal_number)

    def replaced() -> bool:
        now = acceptors(control)
        return len(now) == 2 and first[0] not in now

    await asyncio.to_thread(eventually, replaced, bool, within=40)
    await asyncio.to_thread(plane.until, lambda view: view["convergence"]["acked"] == 3, within=30)
    await asyncio.to_thread(plane.api.post, "/v1/routes/chat/promote", {})
    await asyncio.to_thread(plane.until, lambda view: view["weights"]["v2"] == 100, within=30)

    second = acceptors(control)
    control.kill()
    await asyncio.to_thread(
        eventually, lambda: any(Path(f"/proc/{p}").exists() for p in second), lambda a: not a
    )
    traffic.stop()
    result = await users
    assert result.failed == 0, result
    assert result.ok > 30


@pytest.mark.parametrize("number", [1, 2])
def test_a_port_in_use_is_reported(plane: Plane, number: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", plane.xds))
        taken.listen()
        with pytest.raises(ProcessError, match=r"ended with exit code 1[\s\S]*cannot listen for xDS streams"):
            plane.start_control_plane(f"--workers={number}", collector=False)
