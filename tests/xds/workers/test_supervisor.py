"""A worker pool with two worker processes, one or both of which hang."""

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
from tests.support import configs
from tests.support.hostile import large_snapshot, make_request, open_stream
from xds_server.xds.server import ListenerConfig
from xds_server.xds.snapshot import CLUSTER
from xds_server.xds.workers import WorkerPool, WorkerTimeouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from xds_server import ir
    from xds_server.xds.snapshot import Snapshot

MEGABYTE = 1 << 20


class PoolHarness:
    """A worker pool with two processes that listen on one port."""

    def __init__(self) -> None:
        self.snapshot = configs.snapshot(configs.group(500))
        self.port = free_port()
        config = {
            "listener": ListenerConfig(address=f"127.0.0.1:{self.port}").to_json(),
            "log_level": "warning",
        }
        command = [sys.executable, "-m", "xds_server.xds.workers.worker", json.dumps(config)]
        timeouts = WorkerTimeouts(check_seconds=0.5, unresponsive_checks=6, kill_checks=12)
        self.pool = WorkerPool(self.snapshot_for, command, 2, timeouts=timeouts)

    def snapshot_for(self, _node_class: ir.NodeClass) -> Snapshot:
        return self.snapshot

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.pool.publish("chat")


@asynccontextmanager
async def running_pool() -> AsyncIterator[PoolHarness]:
    harness = PoolHarness()
    running = asyncio.ensure_future(harness.pool.run())
    try:
        await asyncio.wait_for(harness.pool.ready(), 30)
        yield harness
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_worker_that_hangs_is_detected_and_replaced() -> None:
    with capture_logs() as logs:
        async with running_pool() as harness, open_stream(harness.port, delta=True) as call:
            await call.write(make_request(CLUSTER, node="n1"))
            assert isinstance(await asyncio.wait_for(call.read(), 10), bytes)
            await until(lambda: harness.pool.connected == 1)
            (hung,) = [connection for connection in harness.pool._connections if connection.connected]
            os.kill(hung.pid, signal.SIGSTOP)
            buffered = 0
            for number in range(40):
                harness.publish(large_snapshot(number, MEGABYTE + number))
                for _ in range(5):
                    await asyncio.sleep(0)
                buffered = max(buffered, hung.writer.transport.get_write_buffer_size())
            assert 0 < buffered < 2 * MEGABYTE, "one snapshot is buffered, and the others take no memory"
            await until(lambda: harness.pool.serving == 1)
            assert "does not respond" in harness.pool.convergence("chat").detail
            await until(lambda: harness.pool.serving == 2)
            assert hung not in harness.pool._connections
            async with open_stream(harness.port, delta=True) as again:
                await again.write(make_request(CLUSTER, node="n1"))
                assert isinstance(await asyncio.wait_for(again.read(), 10), bytes)
    events = [entry["event"] for entry in logs]
    assert events.index("worker_unresponsive") < events.index("worker_killed") < events.index("worker_exited")


async def test_workers_that_hang_do_not_prevent_a_shutdown() -> None:
    async with running_pool() as harness:
        pids = [connection.pid for connection in harness.pool._connections]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    await until(lambda: not any(exists(pid) for pid in pids))
