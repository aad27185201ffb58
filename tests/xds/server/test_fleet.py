"""A control plane and two acceptors joined by their real feed, in one loop; proxies inside it too."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import worlds
from tests.support.proxy import FakeProxy
from tests.xds.server.test_streams import until
from xds_server import ir
from xds_server.view import ProxyStatus
from xds_server.xds.server.counters import Counters
from xds_server.xds.snapshot import ROUTE, changes
from xds_server.xds.wire import feed_pb2 as wire
from xds_server.xds.workers import WorkerPool
from xds_server.xds.workers.messages import class_of, proxies_class, world_message, world_of
from xds_server.xds.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from xds_server.xds.snapshot import Snapshot

PROXIES = ir.NodeClass(group="chat", entry=ir.Address(host="::1", port=8080), envoy=38)


class House:
    """A fleet with a world that can be changed, and the acceptors on its feed."""

    def __init__(self) -> None:
        self.world = worlds.snapshot(worlds.group(500))
        self.changed: list[str] = []
        self.fleet = WorkerPool(self.world_of, [], 2, on_change=self.changed.append)
        self.compiled: Callable[[ir.NodeClass], None] = lambda _proxies: None
        self.acceptors: list[Worker] = []
        self.jobs: list[list[asyncio.Task[None]]] = []

    def world_of(self, proxies: ir.NodeClass) -> Snapshot:
        self.compiled(proxies)
        return self.world

    async def add(self, path: Path, *, listening: bool = True) -> Worker:
        acceptor = Worker(*await asyncio.open_unix_connection(path))
        self.acceptors.append(acceptor)
        if listening:
            acceptor.listening()
        jobs = (acceptor.listen(), acceptor.say(), acceptor.report(), acceptor.hub.run())
        self.jobs.append([asyncio.ensure_future(job) for job in jobs])
        return acceptor

    async def lose(self, number: int) -> None:
        """End an acceptor as a killed process ends: its sockets close."""
        self.acceptors[number].writer.close()
        for job in self.jobs[number]:
            job.cancel()
        await asyncio.gather(*self.jobs[number], return_exceptions=True)

    def publish(self, world: Snapshot) -> None:
        self.world = world
        self.fleet.publish("chat")

    def acked(self) -> tuple[int, int]:
        found = self.fleet.convergence("chat")
        return found.acked, found.connected


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[House]:
    house = House()
    path = folder / "feed.sock"
    async with await asyncio.start_unix_server(house.fleet._serve, path):
        for _ in range(2):
            await house.add(path)
        await house.fleet.ready()
        yield house
        for number in range(2):
            await house.lose(number)
        await until(lambda: not house.fleet._links)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path) as alive:
        yield alive


async def test_proxies_of_all_acceptors_are_served_and_counted(house: House) -> None:
    for number in range(6):
        FakeProxy(house.acceptors[number % 2].hub, f"proxy-{number}")
    await until(lambda: house.acked() == (6, 6))
    house.publish(worlds.snapshot(worlds.group(700)))
    assert house.acked()[0] == 0, "what was said of the older world does not count"
    await until(lambda: house.acked() == (6, 6))
    assert house.fleet.convergence("chat").version == house.world.version
    await until(lambda: len(house.fleet.proxies()) == 6)
    await until(lambda: {view.status for view in house.fleet.proxies()} == {ProxyStatus.SYNCED})
    await until(lambda: house.fleet.counters.accepted["RouteConfiguration"] >= 12)
    assert house.fleet.connected == 6


async def test_a_refusal_heard_by_one_acceptor_stops_the_other(house: House) -> None:
    one = [FakeProxy(house.acceptors[0].hub, f"one-{number}") for number in range(3)]
    other = [FakeProxy(house.acceptors[1].hub, f"other-{number}") for number in range(3)]
    await until(lambda: house.acked() == (6, 6))
    good, bad = house.world.version, worlds.snapshot(worlds.group(700))
    for proxy in one:
        proxy.refuse = {ROUTE}
    for proxy in other:
        proxy.silent = True
    house.publish(bad)
    await until(lambda: house.fleet.convergence("chat").nacked > 0)
    assert "refused RouteConfiguration entry" in house.fleet.convergence("chat").detail
    offered = [proxy.stream.session for proxy in other]
    await until(lambda: {s.snapshot.version for s in offered if s.snapshot is not None} == {good})


async def test_an_acceptor_that_ends_takes_its_proxies_out_of_the_count(house: House) -> None:
    for number in range(4):
        FakeProxy(house.acceptors[number % 2].hub, f"proxy-{number}")
    await until(lambda: house.acked() == (4, 4))
    await until(lambda: house.fleet.counters.pushes > 0)
    house.changed.clear()
    await house.lose(1)
    await until(lambda: house.acked() == (2, 2))
    assert set(house.changed) == {"chat"}, "rollouts hear of it"


async def test_acceptors_are_ready_when_their_port_is_open(tmp_path: Path) -> None:
    house = House()
    path = tmp_path / "feed.sock"
    async with await asyncio.start_unix_server(house.fleet._serve, path):
        await house.add(path)
        late = await house.add(path, listening=False)
        await until(lambda: sum(link.heard for link in house.fleet._links) == 2)
        assert house.fleet.serving == 1
        ready = asyncio.ensure_future(house.fleet.ready())
        await until(lambda: sum(link.take_heard() for link in house.fleet._links) == 2)
        assert not ready.done(), "one of them only reports"
        late.listening()
        await asyncio.wait_for(ready, 5)
        for number in range(2):
            await house.lose(number)
        await until(lambda: not house.fleet._links)


async def test_an_acceptor_ends_with_its_feed(house: House) -> None:
    for link in list(house.fleet._links):
        link.writer.close()
    done, _ = await asyncio.wait([jobs[0] for jobs in house.jobs], timeout=5)
    assert len(done) == 2


async def refused_by_one(house: House) -> tuple[str, str, list[FakeProxy]]:
    """Have a version refused by the proxies of the first acceptor; return good, bad, and them."""
    proxies = [FakeProxy(house.acceptors[0].hub, f"one-{number}") for number in range(3)]
    await until(lambda: house.acked() == (3, 3))
    await until(lambda: all(known.released for known in house.fleet._ledger.classes.values()))
    good, bad = house.world.version, worlds.snapshot(worlds.group(700))
    for proxy in proxies:
        proxy.refuse = {bad.version}
    house.publish(bad)
    await until(lambda: house.fleet.convergence("chat").nacked > 0)
    await until(lambda: {proxy.version for proxy in proxies} == {good})
    return good, bad.version, proxies


async def test_an_acceptor_without_that_class_hands_out_the_good_version(house: House) -> None:
    good, bad, _ = await refused_by_one(house)
    late = FakeProxy(house.acceptors[1].hub, "late")
    await until(lambda: late.version == good)
    assert ("entry", house.world.of(ROUTE)["entry"].version) not in late.seen
    await until(lambda: house.fleet.convergence("chat").connected == 4)
    found = house.fleet.convergence("chat")
    assert (found.acked, found.version) == (0, bad)
    assert f"all keep {good}" in found.detail
    (view,) = house.acceptors[1].hub.proxies()
    assert "one-" in view.detail, "and says who refused the next"


async def test_an_acceptor_that_starts_later_hands_out_the_good_version(house: House, tmp_path: Path) -> None:
    good, _, proxies = await refused_by_one(house)
    third = await house.add(tmp_path / "feed.sock")
    late = FakeProxy(third.hub, "late")
    await until(lambda: late.version == good)
    # All that ever knew of it are gone, and what they found out is not.
    for proxy in (*proxies, late):
        proxy.leave()
    await until(lambda: house.fleet.convergence("chat").connected == 0)
    await until(lambda: not any(link.told for link in house.fleet._links))
    again = FakeProxy(third.hub, "again")
    await until(lambda: again.version == good)
    assert ("entry", house.world.of(ROUTE)["entry"].version) not in again.seen
    await house.lose(2)


async def test_what_comes_after_a_refused_version_is_probed_where_nobody_saw_the_good_one(
    house: House,
) -> None:
    good, _, proxies = await refused_by_one(house)
    for proxy in proxies:
        proxy.leave()
    await until(lambda: not any(link.told for link in house.fleet._links))
    house.world = worlds.snapshot(worlds.group(800))
    late = FakeProxy(house.acceptors[1].hub, "late")
    late.refuse = {ROUTE}
    await until(lambda: late.stream.session.snapshot is not None)
    offered = late.stream.session.snapshot
    assert offered is not None
    assert offered.version == good, "before it is asked to prove another"
    late.refuse = set()
    await until(lambda: house.acked() == (1, 1))
    assert late.version == house.world.version


async def test_a_version_that_was_mended_is_good_again(house: House) -> None:
    good, _, proxies = await refused_by_one(house)
    for proxy in proxies:
        proxy.refuse = set()
    house.publish(worlds.snapshot(worlds.group(500)))
    assert house.world.version == good
    late = FakeProxy(house.acceptors[1].hub, "late")
    await until(lambda: house.acked() == (4, 4))
    assert late.version == good
    (known,) = house.fleet._ledger.classes.values()
    assert known.fallback is None


async def test_classes_that_nobody_belongs_to_are_forgotten(house: House) -> None:
    asked: list[ir.NodeClass] = []
    house.compiled = asked.append
    proxies = [FakeProxy(house.acceptors[0].hub, f"p-{n}", f"group-{n}", minor=36 + n) for n in range(4)]
    stays = FakeProxy(house.acceptors[1].hub, "stays")
    await until(lambda: all(proxy.version for proxy in (*proxies, stays)))
    await until(lambda: len(house.fleet._ledger.classes) == 5)
    for proxy in proxies:
        proxy.leave()
    await until(lambda: len(house.fleet._ledger.classes) == 1)
    assert not house.acceptors[0].classes
    assert not house.acceptors[0].hub._groups
    await until(lambda: {name for link in house.fleet._links for name in link.standings} == {"chat"})
    asked.clear()
    house.fleet.publish("group-1")
    assert asked == []
    again = FakeProxy(house.acceptors[0].hub, "again", "group-1")
    await until(lambda: again.version == house.world.version)
    assert len(asked) == 1


async def test_a_class_that_comes_and_goes_at_once_ends_no_acceptor(house: House) -> None:
    stays = FakeProxy(house.acceptors[0].hub, "stays")
    for number in range(50):
        brief = FakeProxy(house.acceptors[0].hub, "brief", minor=37)
        if number % 3:
            await asyncio.sleep(0)
        brief.leave()
        house.publish(worlds.snapshot(worlds.group(500 + number, shadow=number % 2 == 1)))
    last = FakeProxy(house.acceptors[0].hub, "last", minor=37)
    await until(lambda: stays.version == last.version == house.world.version)
    assert not any(job.done() for jobs in house.jobs for job in jobs)


async def test_a_world_that_cannot_be_built_ends_no_link(house: House) -> None:
    def refuse(proxies: ir.NodeClass) -> None:
        if proxies.envoy == 37:
            raise ir.UnsafeConfigError("it would break a rule")

    old = FakeProxy(house.acceptors[0].hub, "old", minor=37)
    new = FakeProxy(house.acceptors[0].hub, "new", minor=40)
    await until(lambda: house.acked() == (2, 2))
    before = house.world.version
    house.compiled = refuse
    house.publish(worlds.snapshot(worlds.group(700)))
    late = FakeProxy(house.acceptors[1].hub, "late", minor=37)
    await until(lambda: new.version == house.world.version)
    await until(lambda: late.version == before)
    assert old.version == before
    await until(lambda: house.acked() == (0, 3))
    assert "it would break a rule" in house.fleet.convergence("chat").detail
    assert house.fleet.counters.worlds_failed == 2
    house.compiled = lambda _proxies: None
    house.fleet.publish("chat")
    await until(lambda: house.acked() == (3, 3))
    assert len(house.fleet._links) == 2


def test_a_world_travels_as_its_difference() -> None:
    first, second = worlds.snapshot(worlds.group(500)), worlds.snapshot(worlds.group(600, shadow=True))
    whole = wire.World.FromString(world_message(PROXIES, None, first).SerializeToString())
    step = wire.World.FromString(world_message(PROXIES, first, second).SerializeToString())
    back = wire.World.FromString(world_message(PROXIES, second, first).SerializeToString())
    built = world_of(whole, None)
    assert (built.version, changes(built, first)) == (first.version, {})
    after = world_of(step, built)
    assert (after.version, changes(after, second)) == (second.version, {})
    assert {name.name for name in back.gone} >= {"chat/hop"}
    assert world_of(back, after).version == first.version
    assert class_of(whole.proxies) == PROXIES
    assert class_of(proxies_class(PROXIES)) == PROXIES
    for kind, entries in after.entries.items():
        for name, entry in entries.items():
            assert entry.clusters == second.of(kind)[name].clusters, "make before break needs them"


def test_counters_travel_and_add_up() -> None:
    one = Counters(pushes=2, stale=1)
    one.accepted["Cluster"] = 3
    one.queue_seconds.observe(0.01)
    total = Counters()
    total.add(Counters.of_json(one.to_json()))
    total.add(one)
    assert (total.pushes, total.stale, total.accepted["Cluster"]) == (4, 2, 6)
    assert total.queue_seconds.cumulative()[-1] == ("+Inf", 2.0)
