"""A killed control plane delivers the pending events after its restart."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING

from demo.processes import free_port
from tests.support.plane import Plane, eventually, route
from tests.support.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path


def metrics(plane: Plane) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{plane.http}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_a_killed_process_delivers_its_events_after_a_restart(tmp_path: Path) -> None:
    plane, port = Plane(tmp_path), free_port()
    settings = tmp_path / "notify.yaml"
    settings.write_text(
        f"targets: [{{name: ops, type: webhook, url: 'http://127.0.0.1:{port}/hooks/one'}}]", encoding="utf-8"
    )
    flags = (f"--notify={settings}", "--no-health-checks")
    try:
        first = await asyncio.to_thread(plane.start_control_plane, *flags, collector=False)
        await asyncio.to_thread(plane.apply, route(("v1", "127.0.0.1:9001")))
        first.kill()
        await asyncio.to_thread(plane.start_control_plane, *flags, collector=False)
        async with receiving(port=port) as receiver:
            await receiver.until(1)
            delivered = 'shiftplane_notifications_total{result="delivered",target="ops"} 1.0'
            await asyncio.to_thread(eventually, lambda: metrics(plane), lambda text: delivered in text)
        assert receiver.kinds == ["accepted"]
    finally:
        plane.close()
