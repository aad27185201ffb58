"""A worker pool and two workers in one event loop, connected by their real socket, with fake proxies."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import configs
from tests.support.proxy import FakeProxy
from tests.xds.server.test_streams import until
from xds_server import ir
from xds_server.view import ProxyStatus
from xds_server.view.uncounted import StatisticsDefect
from xds_server.xds.server.counters import Counters
from xds_server.xds.snapshot import ROUTE, changes
from xds_server.xds.wire import worker_pb2 as wire
from xds_server.xds.workers import WorkerPool
from xds_server.xds.workers.messages import (
    apply_snapshot,
    node_class_from_wire,
    node_class_to_wire,
    snapshot_to_wire,
)
from xds_server.xds.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from xds_server.xds.snapshot import Snapshot

NODE_CLASS = ir.NodeClass(group="chat", entry=ir.Address(host="::1", port=8080), envoy=38)


class PoolHarness:
    """A worker pool with a snapshot that tests replace, and the workers connected to it."""

    def __init__(self) -> None:
        self.snapshot = configs.snapshot(configs.group(500))
        self.changed: list[str] = []
        self.pool = WorkerPool(self.snapshot_for, [], 2, on_change=self.changed.append)
        self.on_build: Callable[[ir.NodeClass], None] = lambda _node_class: None
        self.workers: list[Worker] = []
        self.jobs: list[list[asyncio.Task[None]]] = []

    def snapshot_for(self, node_class: ir.NodeClass) -> Snapshot:
        self.on_build(node_class)
        return self.snapshot

    async def add(self, path: Path, *, listening: bool = True) -> Worker:
        worker = Worker(*await asyncio.open_unix_connection(path))
        self.workers.append(worker)
        if listening:
            worker.report_listening()
        jobs = (worker.receive(), worker.report_status(), worker.report(), worker.hub.run())
        self.jobs.append([asyncio.ensure_future(job) for job in jobs])
        return worker

    async def lose(self, number: int) -> None:
        """End a worker as a killed process ends: its sockets close."""
        self.workers[number].writer.close()
        for job in self.jobs[number]:
            job.cancel()
        await asyncio.gather(*self.jobs[number], return_exceptions=True)

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.pool.publish("chat")

    def acked(self) -> tuple[int, int]:
        found = self.pool.convergence("chat")
        return found.acked, found.connected


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[PoolHarness]:
    harness = PoolHarness()
    path = folder / "worker.sock"
    async with await asyncio.start_unix_server(harness.pool._serve, path):
        for _ in range(2):
            await harness.add(path)
        await harness.pool.ready()
        yield harness
        for number in range(2):
            await harness.lose(number)
        await until(lambda: not harness.pool._connections)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[PoolHarness]:
    async with running(tmp_path) as harness:
        yield harness


async def test_proxies_of_all_workers_are_served_and_counted(harness: PoolHarness) -> None:
    for number in range(6):
        FakeProxy(harness.workers[number % 2].hub, f"proxy-{number}")
    await until(lambda: harness.acked() == (6, 6))
    harness.publish(configs.snapshot(configs.group(700)))
    assert harness.acked()[0] == 0, "a status for the older version does not count"
    await until(lambda: harness.acked() == (6, 6))
    assert harness.pool.convergence("chat").version == harness.snapshot.version
    await until(lambda: len(harness.pool.proxies()) == 6)
    await until(lambda: {view.status for view in harness.pool.proxies()} == {ProxyStatus.SYNCED})
    await until(lambda: harness.pool.counters.acks["RouteConfiguration"] >= 12)
    assert harness.pool.connected == 6


async def test_statistics_that_arrive_at_another_worker_are_known(harness: PoolHarness) -> None:
    harness.workers[0].hub.statistics.opened("chat", "a").untagged = True
    for worker in harness.workers:
        worker.hub.statistics.opened("chat", "b")
    expected = {("chat", "a"): StatisticsDefect.UNTAGGED, ("chat", "b"): None}
    await until(lambda: harness.pool.statistics_defects() == expected)


async def test_a_nack_received_by_one_worker_stops_the_version_on_the_other(harness: PoolHarness) -> None:
    one = [FakeProxy(harness.workers[0].hub, f"one-{number}") for number in range(3)]
    other = [FakeProxy(harness.workers[1].hub, f"other-{number}") for number in range(3)]
    await until(lambda: harness.acked() == (6, 6))
    good, bad = harness.snapshot.version, configs.snapshot(configs.group(700))
    for proxy in one:
        proxy.refuse = {ROUTE}
    for proxy in other:
        proxy.silent = True
    harness.publish(bad)
    await until(lambda: harness.pool.convergence("chat").nacked > 0)
    assert ": RouteConfiguration entry: refused by the test" in harness.pool.convergence("chat").detail
    offered = [proxy.stream.session for proxy in other]
    await until(lambda: {s.snapshot.version for s in offered if s.snapshot is not None} == {good})


async def test_proxies_of_a_worker_that_ended_are_not_counted(harness: PoolHarness) -> None:
    for number in range(4):
        FakeProxy(harness.workers[number % 2].hub, f"proxy-{number}")
    await until(lambda: harness.acked() == (4, 4))
    await until(lambda: harness.pool.counters.pushes > 0)
    harness.changed.clear()
    await harness.lose(1)
    await until(lambda: harness.acked() == (2, 2))
    assert set(harness.changed) == {"chat"}, "observers are notified"


async def test_the_pool_is_ready_when_all_workers_listen(tmp_path: Path) -> None:
    harness = PoolHarness()
    path = tmp_path / "worker.sock"
    async with await asyncio.start_unix_server(harness.pool._serve, path):
        await harness.add(path)
        late = await harness.add(path, listening=False)
        await until(lambda: sum(connection.received for connection in harness.pool._connections) == 2)
        assert harness.pool.serving == 1
        ready = asyncio.ensure_future(harness.pool.ready())
        await until(lambda: sum(connection.take_received() for connection in harness.pool._connections) == 2)
        assert not ready.done(), "one of them reports but does not listen"
        late.report_listening()
        await asyncio.wait_for(ready, 5)
        for number in range(2):
            await harness.lose(number)
        await until(lambda: not harness.pool._connections)


async def test_a_worker_ends_when_its_connection_closes(harness: PoolHarness) -> None:
    for connection in list(harness.pool._connections):
        connection.writer.close()
    done, _ = await asyncio.wait([jobs[0] for jobs in harness.jobs], timeout=5)
    assert len(done) == 2


async def nacked_by_one(harness: PoolHarness) -> tuple[str, str, list[FakeProxy]]:
    """Publish a version that the first worker's proxies NACK; return good and bad version, and proxies."""
    proxies = [FakeProxy(harness.workers[0].hub, f"one-{number}") for number in range(3)]
    await until(lambda: harness.acked() == (3, 3))
    await until(lambda: all(record.released for record in harness.pool._registry.classes.values()))
    good, bad = harness.snapshot.version, configs.snapshot(configs.group(700))
    for proxy in proxies:
        proxy.refuse = {bad.version}
    harness.publish(bad)
    await until(lambda: harness.pool.convergence("chat").nacked > 0)
    await until(lambda: {proxy.version for proxy in proxies} == {good})
    return good, bad.version, proxies


async def test_a_worker_that_did_not_serve_the_node_class_sends_the_last_good_version(
    harness: PoolHarness,
) -> None:
    good, bad, _ = await nacked_by_one(harness)
    late = FakeProxy(harness.workers[1].hub, "late")
    await until(lambda: late.version == good)
    assert ("entry", harness.snapshot.of(ROUTE)["entry"].version) not in late.seen
    await until(lambda: harness.pool.convergence("chat").connected == 4)
    found = harness.pool.convergence("chat")
    assert (found.acked, found.version) == (0, bad)
    assert f"which keep version {good}" in found.detail
    (view,) = harness.workers[1].hub.proxies()
    assert "one-" in view.detail, "the detail names the proxy that NACKed the newest version"


async def test_a_worker_that_starts_later_sends_the_last_good_version(
    harness: PoolHarness, tmp_path: Path
) -> None:
    good, _, proxies = await nacked_by_one(harness)
    third = await harness.add(tmp_path / "worker.sock")
    late = FakeProxy(third.hub, "late")
    await until(lambda: late.version == good)
    # The NACK is kept after all proxies that received the version have disconnected.
    for proxy in (*proxies, late):
        proxy.leave()
    await until(lambda: harness.pool.convergence("chat").connected == 0)
    await until(lambda: not any(connection.subscriptions for connection in harness.pool._connections))
    again = FakeProxy(third.hub, "again")
    await until(lambda: again.version == good)
    assert ("entry", harness.snapshot.of(ROUTE)["entry"].version) not in again.seen
    await harness.lose(2)


async def test_the_successor_of_a_nacked_version_is_probed_after_the_last_good_version_is_acked(
    harness: PoolHarness,
) -> None:
    good, _, proxies = await nacked_by_one(harness)
    for proxy in proxies:
        proxy.leave()
    await until(lambda: not any(connection.subscriptions for connection in harness.pool._connections))
    harness.snapshot = configs.snapshot(configs.group(800))
    late = FakeProxy(harness.workers[1].hub, "late")
    late.refuse = {ROUTE}
    await until(lambda: late.stream.session.snapshot is not None)
    offered = late.stream.session.snapshot
    assert offered is not None
    assert offered.version == good, "the last good version is offered first"
    late.refuse = set()
    await until(lambda: harness.acked() == (1, 1))
    assert late.version == harness.snapshot.version


async def test_publishing_the_last_good_version_again_releases_it(harness: PoolHarness) -> None:
    good, _, proxies = await nacked_by_one(harness)
    for proxy in proxies:
        proxy.refuse = set()
    harness.publish(configs.snapshot(configs.group(500)))
    assert harness.snapshot.version == good
    late = FakeProxy(harness.workers[1].hub, "late")
    await until(lambda: harness.acked() == (4, 4))
    assert late.version == good
    (record,) = harness.pool._registry.classes.values()
    assert record.fallback is None


async def test_unused_node_classes_are_dropped(harness: PoolHarness) -> None:
    built: list[ir.NodeClass] = []
    harness.on_build = built.append
    proxies = [FakeProxy(harness.workers[0].hub, f"p-{n}", f"group-{n}", minor=36 + n) for n in range(4)]
    stays = FakeProxy(harness.workers[1].hub, "stays")
    await until(lambda: all(proxy.version for proxy in (*proxies, stays)))
    await until(lambda: len(harness.pool._registry.classes) == 5)
    for proxy in proxies:
        proxy.leave()
    await until(lambda: len(harness.pool._registry.classes) == 1)
    assert not harness.workers[0].subscriptions
    assert not harness.workers[0].hub._groups
    await until(
        lambda: {name for connection in harness.pool._connections for name in connection.statuses} == {"chat"}
    )
    built.clear()
    harness.pool.publish("group-1")
    assert built == []
    again = FakeProxy(harness.workers[0].hub, "again", "group-1")
    await until(lambda: again.version == harness.snapshot.version)
    assert len(built) == 1


async def test_a_node_class_that_is_unsubscribed_at_once_ends_no_worker(harness: PoolHarness) -> None:
    stays = FakeProxy(harness.workers[0].hub, "stays")
    for number in range(50):
        brief = FakeProxy(harness.workers[0].hub, "brief", minor=37)
        if number % 3:
            await asyncio.sleep(0)
        brief.leave()
        harness.publish(configs.snapshot(configs.group(500 + number, shadow=number % 2 == 1)))
    last = FakeProxy(harness.workers[0].hub, "last", minor=37)
    await until(lambda: stays.version == last.version == harness.snapshot.version)
    assert not any(job.done() for jobs in harness.jobs for job in jobs)


async def test_a_failed_snapshot_build_closes_no_connection(harness: PoolHarness) -> None:
    def fail(node_class: ir.NodeClass) -> None:
        if node_class.envoy == 37:
            raise ir.UnsafeConfigError("it violates a rule")

    old = FakeProxy(harness.workers[0].hub, "old", minor=37)
    new = FakeProxy(harness.workers[0].hub, "new", minor=40)
    await until(lambda: harness.acked() == (2, 2))
    before = harness.snapshot.version
    harness.on_build = fail
    harness.publish(configs.snapshot(configs.group(700)))
    late = FakeProxy(harness.workers[1].hub, "late", minor=37)
    await until(lambda: new.version == harness.snapshot.version)
    await until(lambda: late.version == before)
    assert old.version == before
    await until(lambda: harness.acked() == (0, 3))
    assert "it violates a rule" in harness.pool.convergence("chat").detail
    assert harness.pool.counters.snapshot_builds_failed == 2
    harness.on_build = lambda _node_class: None
    harness.pool.publish("chat")
    await until(lambda: harness.acked() == (3, 3))
    assert len(harness.pool._connections) == 2


def test_a_snapshot_is_sent_as_its_difference() -> None:
    first, second = configs.snapshot(configs.group(500)), configs.snapshot(configs.group(600, shadow=True))
    whole = wire.SnapshotUpdate.FromString(snapshot_to_wire(NODE_CLASS, None, first).SerializeToString())
    step = wire.SnapshotUpdate.FromString(snapshot_to_wire(NODE_CLASS, first, second).SerializeToString())
    back = wire.SnapshotUpdate.FromString(snapshot_to_wire(NODE_CLASS, second, first).SerializeToString())
    built = apply_snapshot(whole, None)
    assert (built.version, changes(built, first)) == (first.version, {})
    after = apply_snapshot(step, built)
    assert (after.version, changes(after, second)) == (second.version, {})
    assert {name.name for name in back.removed} >= {"chat/hop"}
    assert apply_snapshot(back, after).version == first.version
    assert node_class_from_wire(whole.node_class) == NODE_CLASS
    assert node_class_from_wire(node_class_to_wire(NODE_CLASS)) == NODE_CLASS
    for type_url, resources in after.resources.items():
        for name, resource in resources.items():
            assert resource.clusters == second.of(type_url)[name].clusters, (
                "make before break needs the references"
            )


def test_counters_are_sent_and_added() -> None:
    one = Counters(pushes=2, stale_nonces=1)
    one.acks["Cluster"] = 3
    one.queue_seconds.observe(0.01)
    total = Counters()
    total.add(Counters.of_json(one.to_json()))
    total.add(one)
    assert (total.pushes, total.stale_nonces, total.acks["Cluster"]) == (4, 2, 6)
    assert total.queue_seconds.cumulative()[-1] == ("+Inf", 2.0)
