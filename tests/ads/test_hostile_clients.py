"""Clients that hang, refuse, come and go or talk nonsense: others are served, and nothing is left behind."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clients.many import Clients, Kind
from tests.support import worlds
from tests.support.closed_window import closed_window
from tests.support.hostile import METHODS, Desk, ask, big_world, calling, frame, serving, talk
from xds_server.ads.cut import cut
from xds_server.snapshot import CLUSTER, ENDPOINT, LISTENER
from xds_server.view import ProxyStatus
from xds_server.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GOOD = 50
MEGABYTE = 1 << 20
both = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def synced(desk: Desk) -> int:
    """How many of the good ones hold the newest world."""
    views = [view for view in desk.hub.proxies() if view.id.startswith("good-")]
    return sum(view.status is ProxyStatus.SYNCED and view.version == desk.world.version for view in views)


async def still_serves(desk: Desk, *, delta: bool = True) -> None:
    async with calling(desk.port, delta=delta) as call:
        await call.write(ask(CLUSTER, delta=delta))
        response = await asyncio.wait_for(call.read(), 10)
        assert isinstance(response, bytes)
    await until(lambda: not desk.hub.connected)
    assert not desk.hub.proxies()
    assert desk.hub.convergence("chat").connected == 0


@pytest.mark.quiet
async def test_the_stuck_the_stubborn_and_the_restless_hurt_nobody() -> None:
    async with serving(write_seconds=0.5) as desk:
        good = Clients("127.0.0.1", desk.port, "chat", prefix="good")
        await good.connect(GOOD)
        await until(lambda: synced(desk) == GOOD)
        stubborn = Clients("127.0.0.1", desk.port, "chat", kind=Kind(refuses=True), prefix="stubborn")
        await stubborn.connect(1)
        restless = asyncio.create_task(come_and_go(desk))
        # More than a connection holds on its way, so that whoever does not read blocks a write.
        desk.others["stuck"] = big_world(1, 16 * MEGABYTE)
        async with calling(desk.port, delta=True) as stuck:
            await stuck.write(ask(CLUSTER, node="stuck", group="stuck"))
            for weight in range(1, 6):
                desk.publish(big_world(weight, MEGABYTE))
                await until(lambda: synced(desk) == GOOD)
            await until(lambda: desk.hub.counters.slow_closed >= 1)
            await until(lambda: "stuck" not in {view.id for view in desk.hub.proxies()})
            # Once it reads again it learns that it has to come back.
            assert isinstance(await stuck.read(), bytes)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(stuck.read(), 10)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        restless.cancel()
        await asyncio.gather(restless, return_exceptions=True)
        assert desk.hub.counters.rejected.total() > 0
        assert good.failed == 0, "a good client was cut off"
        good.close()
        stubborn.close()
        await until(lambda: not desk.hub.connected)
        await still_serves(desk)


@pytest.mark.parametrize("size", [0, 4 * MEGABYTE], ids=["small", "large"])
async def test_a_client_that_shuts_its_window_and_answers_pings_is_cut_off(size: int) -> None:
    async with serving(write_seconds=0.5) as desk, AsyncExitStack() as shut:
        desk.server.last_seconds = 0.5
        good = Clients("127.0.0.1", desk.port, "chat", prefix="good")
        await good.connect(1)
        await until(lambda: synced(desk) == 1)
        desk.others["stuck"] = big_world(1, size)
        tasks = len(asyncio.all_tasks())
        clients = [
            await shut.enter_async_context(
                closed_window(desk.port, METHODS[True], ask(CLUSTER, node="s", group="stuck"), window=number)
            )
            for number in range(20)
        ]
        await until(lambda: desk.hub.counters.slow_closed == 20)
        await until(lambda: all(client.ended.is_set() for client in clients))
        assert [client.taken for client in clients] == list(range(20)), "they took no more than they said"
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert good.failed == 0
        assert synced(desk) == 1
        good.close()


@pytest.mark.parametrize("mapped", [False, True])
def test_only_the_connection_that_is_meant_is_cut(mapped: bool) -> None:
    with ExitStack() as open_:
        door = open_.enter_context(
            socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            if mapped and socket.has_dualstack_ipv6()
            else socket.create_server(("127.0.0.1", 0))
        )
        one, other = (
            open_.enter_context(socket.create_connection(("127.0.0.1", door.getsockname()[1])))
            for _ in range(2)
        )
        near, spared = (open_.enter_context(door.accept()[0]) for _ in range(2))
        open_files = len(list(Path("/dev/fd").iterdir()))
        assert cut(frozenset({f"ipv4:127.0.0.1:{one.getsockname()[1]}", "unix:", ""})) == 1
        assert len(list(Path("/dev/fd").iterdir())) == open_files
        near.settimeout(5)
        one.settimeout(5)
        assert near.recv(1) == b""
        assert one.recv(1) == b"", "the client hears of it"
        other.sendall(b"x")
        assert spared.recv(1) == b"x"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine speaks no IPv6")
def test_a_connection_over_ipv6_is_cut() -> None:
    with ExitStack() as open_:
        door = open_.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        one = open_.enter_context(socket.create_connection(door.getsockname()[:2]))
        near = open_.enter_context(door.accept()[0])
        assert cut(frozenset({f"ipv6:%5B::1%5D:{one.getsockname()[1]}"})) == 1
        near.settimeout(5)
        assert near.recv(1) == b""


async def test_a_stream_the_server_ends_is_ended_for_the_client() -> None:
    async with serving() as desk, calling(desk.port, delta=True) as call:
        await call.write(ask(CLUSTER))
        assert isinstance(await call.read(), bytes)
        await desk.hub.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(call.read(), 10)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def come_and_go(desk: Desk) -> None:
    """Connect, ask, leave in the middle of the answer; again."""
    while True:
        async with calling(desk.port, delta=True) as call:
            await call.write(ask(CLUSTER, node="restless"))
            await call.write(ask(LISTENER))
            await asyncio.sleep(0.005)


@both
def test_random_bytes_end_a_stream_and_nothing_else(delta: bool) -> None:
    with asyncio.Runner() as runner:
        context = serving()
        desk = runner.run(context.__aenter__())

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.binary(max_size=300), max_size=4), st.integers(0), st.booleans())
        def nonsense(raw: list[bytes], seed: int, greeting: bool) -> None:
            rng = random.Random(seed)
            said = [ask(CLUSTER, delta=delta)] if greeting else []
            said += [frame(rng, delta=delta) for _ in range(rng.randrange(4))] + raw
            code, _ = runner.run(talk(desk.port, said, delta=delta))
            assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}

        nonsense()
        runner.run(still_serves(desk, delta=delta))
        runner.run(context.__aexit__(None, None, None))


NAMES = [f"nowhere-{number}" for number in range(100_000)]
NODE = wire.Node(id="someone", cluster="chat")
FAR_ENTRY = wire.Node(id="someone", cluster="chat")
FAR_ENTRY.metadata.update({"shiftplane": {"entry": "127.0.0.1:" + "9" * 5_000}})


@pytest.mark.parametrize(
    "frames",
    [
        [ask(CLUSTER, "n" * MEGABYTE)],
        [ask(ENDPOINT, *NAMES)],
        [ask(ENDPOINT, *["chat/v1"] * len(NAMES))],
        [ask("t" * MEGABYTE, "x"), ask("t" * MEGABYTE)],
        [ask(CLUSTER, node="n" * MEGABYTE)],
        [ask(f"type-{number}") for number in range(200)],
        [wire.DeltaDiscoveryRequest(node=FAR_ENTRY, type_url=CLUSTER).SerializeToString()],
        [
            wire.DeltaDiscoveryRequest(
                node=NODE, type_url=CLUSTER, initial_resource_versions=dict.fromkeys(NAMES, "1")
            ).SerializeToString()
        ],
    ],
    ids=["name", "names", "same-name", "type", "node", "types", "entry", "holds"],
)
async def test_what_is_too_much_is_answered_or_refused(frames: Iterable[bytes]) -> None:
    async with serving() as desk:
        code, _ = await talk(desk.port, frames, delta=True)
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
        await still_serves(desk)


@both
async def test_a_name_given_many_times_is_answered_once(delta: bool) -> None:
    async with serving() as desk, calling(desk.port, delta=delta) as call:
        await call.write(ask(ENDPOINT, *["chat/v1"] * 1_000, "chat/v2", delta=delta))
        raw = await asyncio.wait_for(call.read(), 10)
        kind = wire.DeltaDiscoveryResponse if delta else wire.DiscoveryResponse
        assert len(kind.FromString(raw).resources) == 2


async def test_a_stream_that_is_refused_while_it_is_written_to_ends_alone() -> None:
    async with serving() as desk:
        desk.publish(worlds.snapshot(worlds.group(500, shadow=True)))
        nonsense = [ask(CLUSTER), ask(LISTENER), *(ask(f"type-{n}", "x") for n in range(2)), b"\xff\xff\xff"]
        for _ in range(60):
            code, _ = await talk(desk.port, nonsense, delta=True)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert desk.pushing is not None
            assert not desk.pushing.done()
        await still_serves(desk)


async def test_types_of_a_client_s_own_make_no_metrics_of_their_own() -> None:
    async with serving() as desk, calling(desk.port, delta=True) as call:
        for number in range(3):
            await call.write(ask(f"type-{number}", "x"))
            response = wire.DeltaDiscoveryResponse.FromString(await asyncio.wait_for(call.read(), 10))
            answer = wire.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            await call.write(answer.SerializeToString())
        await until(lambda: desk.hub.counters.accepted == {"other": 3})


async def test_many_that_do_not_read_keep_nobody_waiting() -> None:
    async with serving(write_seconds=30) as desk, AsyncExitStack() as stuck:
        good = Clients("127.0.0.1", desk.port, "chat", prefix="good")
        await good.connect(1)
        await until(lambda: synced(desk) == 1)
        desk.others["stuck"] = big_world(1, 8 * MEGABYTE)
        for number in range(80):
            call = await stuck.enter_async_context(calling(desk.port, delta=True))
            await call.write(ask(CLUSTER, node=f"stuck-{number}", group="stuck"))
        await until(lambda: len(desk.hub.proxies()) == 81)
        desk.publish(worlds.snapshot(worlds.group(700)))
        await until(lambda: synced(desk) == 1)
        assert desk.hub.counters.slow_closed == 0
        good.close()
