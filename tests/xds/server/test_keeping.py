"""A control plane and two real acceptor processes, one of which hangs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from demo.processes import free_port
from tests.support import worlds
from tests.support.hostile import ask, big_world, calling
from xds_server.xds.server import ListenerConfig
from xds_server.xds.snapshot import CLUSTER
from xds_server.xds.workers import WorkerPool, WorkerTimeouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from xds_server import ir
    from xds_server.xds.snapshot import Snapshot

MEGABYTE = 1 << 20


class House:
    """A fleet of two processes behind one port."""

    def __init__(self) -> None:
        self.world = worlds.snapshot(worlds.group(500))
        self.port = free_port()
        config = {
            "listener": ListenerConfig(address=f"127.0.0.1:{self.port}").to_json(),
            "log_level": "warning",
        }
        command = [sys.executable, "-m", "xds_server.xds.workers.worker", json.dumps(config)]
        patience = WorkerTimeouts(seconds=0.5, silent=6, hung=12)
        self.fleet = WorkerPool(self.world_of, command, 2, timeouts=patience)

    def world_of(self, _proxies: ir.NodeClass) -> Snapshot:
        return self.world

    def publish(self, world: Snapshot) -> None:
        self.world = world
        self.fleet.publish("chat")


@asynccontextmanager
async def living() -> AsyncIterator[House]:
    house = House()
    running = asyncio.ensure_future(house.fleet.run())
    try:
        await asyncio.wait_for(house.fleet.ready(), 30)
        yield house
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def test_an_acceptor_that_hangs_is_noticed_and_replaced() -> None:
    with capture_logs() as logs:
        async with living() as house, calling(house.port, delta=True) as call:
            await call.write(ask(CLUSTER, node="n1"))
            assert isinstance(await asyncio.wait_for(call.read(), 10), bytes)
            await until(lambda: house.fleet.connected == 1)
            (hung,) = [link for link in house.fleet._links if link.connected]
            os.kill(hung.pid, signal.SIGSTOP)
            buffered = 0
            for number in range(40):
                house.publish(big_world(number, MEGABYTE + number))
                for _ in range(5):
                    await asyncio.sleep(0)
                buffered = max(buffered, hung.writer.transport.get_write_buffer_size())
            assert 0 < buffered < 2 * MEGABYTE, "one world is on its way, and the others wait for no memory"
            await until(lambda: house.fleet.serving == 1)
            assert "says nothing" in house.fleet.convergence("chat").detail
            await until(lambda: house.fleet.serving == 2)
            assert hung not in house.fleet._links
            async with calling(house.port, delta=True) as again:
                await again.write(ask(CLUSTER, node="n1"))
                assert isinstance(await asyncio.wait_for(again.read(), 10), bytes)
    said = [entry["event"] for entry in logs]
    assert said.index("acceptor_silent") < said.index("acceptor_hung") < said.index("acceptor_ended")


async def test_acceptors_that_hang_do_not_keep_the_control_plane_from_ending() -> None:
    async with living() as house:
        pids = [link.pid for link in house.fleet._links]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    await until(lambda: not any(there(pid) for pid in pids))
