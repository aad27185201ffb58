"""Clients that hang, NACK, reconnect or send invalid bytes do not affect others and leave no state."""

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
from tests.support import configs
from tests.support.closed_window import closed_window
from tests.support.hostile import (
    METHODS,
    ServerHarness,
    exchange,
    large_snapshot,
    make_request,
    open_stream,
    random_request,
    serving,
)
from xds_server.view import ProxyStatus
from xds_server.xds.server.abort import abort_connections
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GOOD = 50
MEGABYTE = 1 << 20
both = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def synced(harness: ServerHarness) -> int:
    """Return how many of the good clients have the newest snapshot."""
    views = [view for view in harness.hub.proxies() if view.id.startswith("good-")]
    return sum(
        view.status is ProxyStatus.SYNCED and view.version == harness.snapshot.version for view in views
    )


async def still_serves(harness: ServerHarness, *, delta: bool = True) -> None:
    async with open_stream(harness.port, delta=delta) as call:
        await call.write(make_request(CLUSTER, delta=delta))
        response = await asyncio.wait_for(call.read(), 10)
        assert isinstance(response, bytes)
    await until(lambda: not harness.hub.connected)
    assert not harness.hub.proxies()
    assert harness.hub.convergence("chat").connected == 0


@pytest.mark.quiet
async def test_stuck_nacking_and_reconnecting_clients_do_not_affect_others() -> None:
    async with serving(write_seconds=0.5) as harness:
        good = Clients("127.0.0.1", harness.port, "chat", prefix="good")
        await good.connect(GOOD)
        await until(lambda: synced(harness) == GOOD)
        nacking = Clients("127.0.0.1", harness.port, "chat", kind=Kind(refuses=True), prefix="nacking")
        await nacking.connect(1)
        reconnecting = asyncio.create_task(reconnect_forever(harness))
        # Larger than the buffers of a connection, so that a client that does not read blocks a write.
        harness.group_snapshots["stuck"] = large_snapshot(1, 16 * MEGABYTE)
        async with open_stream(harness.port, delta=True) as stuck:
            await stuck.write(make_request(CLUSTER, node="stuck", group="stuck"))
            for weight in range(1, 6):
                harness.publish(large_snapshot(weight, MEGABYTE))
                await until(lambda: synced(harness) == GOOD)
            await until(lambda: harness.hub.counters.slow_clients_closed >= 1)
            await until(lambda: "stuck" not in {view.id for view in harness.hub.proxies()})
            # When it reads again, it receives the status of the closed stream.
            assert isinstance(await stuck.read(), bytes)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(stuck.read(), 10)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        reconnecting.cancel()
        await asyncio.gather(reconnecting, return_exceptions=True)
        assert harness.hub.counters.nacks.total() > 0
        assert good.failed == 0, "a good client was disconnected"
        good.close()
        nacking.close()
        await until(lambda: not harness.hub.connected)
        await still_serves(harness)


@pytest.mark.parametrize("size", [0, 4 * MEGABYTE], ids=["small", "large"])
async def test_a_client_with_a_closed_window_that_answers_pings_is_disconnected(size: int) -> None:
    async with serving(write_seconds=0.5) as harness, AsyncExitStack() as shut:
        harness.server.flush_seconds = 0.5
        good = Clients("127.0.0.1", harness.port, "chat", prefix="good")
        await good.connect(1)
        await until(lambda: synced(harness) == 1)
        harness.group_snapshots["stuck"] = large_snapshot(1, size)
        tasks = len(asyncio.all_tasks())
        clients = [
            await shut.enter_async_context(
                closed_window(
                    harness.port, METHODS[True], make_request(CLUSTER, node="s", group="stuck"), window=number
                )
            )
            for number in range(20)
        ]
        await until(lambda: harness.hub.counters.slow_clients_closed == 20)
        await until(lambda: all(client.ended.is_set() for client in clients))
        assert [client.taken for client in clients] == list(range(20)), (
            "they received no more than their window"
        )
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert good.failed == 0
        assert synced(harness) == 1
        good.close()


@pytest.mark.parametrize("mapped", [False, True])
def test_only_the_given_connection_is_aborted(mapped: bool) -> None:
    with ExitStack() as open_:
        listener = open_.enter_context(
            socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            if mapped and socket.has_dualstack_ipv6()
            else socket.create_server(("127.0.0.1", 0))
        )
        one, other = (
            open_.enter_context(socket.create_connection(("127.0.0.1", listener.getsockname()[1])))
            for _ in range(2)
        )
        near, spared = (open_.enter_context(listener.accept()[0]) for _ in range(2))
        open_files = len(list(Path("/dev/fd").iterdir()))
        assert abort_connections(frozenset({f"ipv4:127.0.0.1:{one.getsockname()[1]}", "unix:", ""})) == 1
        assert len(list(Path("/dev/fd").iterdir())) == open_files
        near.settimeout(5)
        one.settimeout(5)
        assert near.recv(1) == b""
        assert one.recv(1) == b"", "the client sees the end of the connection"
        other.sendall(b"x")
        assert spared.recv(1) == b"x"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_a_connection_over_ipv6_is_aborted() -> None:
    with ExitStack() as open_:
        listener = open_.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        one = open_.enter_context(socket.create_connection(listener.getsockname()[:2]))
        near = open_.enter_context(listener.accept()[0])
        assert abort_connections(frozenset({f"ipv6:%5B::1%5D:{one.getsockname()[1]}"})) == 1
        near.settimeout(5)
        assert near.recv(1) == b""


async def test_a_drained_stream_ends_with_a_status() -> None:
    async with serving() as harness, open_stream(harness.port, delta=True) as call:
        await call.write(make_request(CLUSTER))
        assert isinstance(await call.read(), bytes)
        await harness.hub.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(call.read(), 10)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def reconnect_forever(harness: ServerHarness) -> None:
    """Connect, send requests and disconnect during the response, in a loop."""
    while True:
        async with open_stream(harness.port, delta=True) as call:
            await call.write(make_request(CLUSTER, node="reconnecting"))
            await call.write(make_request(LISTENER))
            await asyncio.sleep(0.005)


@both
def test_random_bytes_end_their_own_stream_only(delta: bool) -> None:
    with asyncio.Runner() as runner:
        context = serving()
        harness = runner.run(context.__aenter__())

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.binary(max_size=300), max_size=4), st.integers(0), st.booleans())
        def nonsense(raw: list[bytes], seed: int, greeting: bool) -> None:
            rng = random.Random(seed)
            frames = [make_request(CLUSTER, delta=delta)] if greeting else []
            frames += [random_request(rng, delta=delta) for _ in range(rng.randrange(4))] + raw
            code, _ = runner.run(exchange(harness.port, frames, delta=delta))
            assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}

        nonsense()
        runner.run(still_serves(harness, delta=delta))
        runner.run(context.__aexit__(None, None, None))


NAMES = [f"nowhere-{number}" for number in range(100_000)]
NODE = wire.Node(id="some-node", cluster="chat")
FAR_ENTRY = wire.Node(id="some-node", cluster="chat")
FAR_ENTRY.metadata.update({"shiftplane": {"entry": "127.0.0.1:" + "9" * 5_000}})


@pytest.mark.parametrize(
    "frames",
    [
        [make_request(CLUSTER, "n" * MEGABYTE)],
        [make_request(ENDPOINT, *NAMES)],
        [make_request(ENDPOINT, *["chat/v1"] * len(NAMES))],
        [make_request("t" * MEGABYTE, "x"), make_request("t" * MEGABYTE)],
        [make_request(CLUSTER, node="n" * MEGABYTE)],
        [make_request(f"type-{number}") for number in range(200)],
        [wire.DeltaDiscoveryRequest(node=FAR_ENTRY, type_url=CLUSTER).SerializeToString()],
        [
            wire.DeltaDiscoveryRequest(
                node=NODE, type_url=CLUSTER, initial_resource_versions=dict.fromkeys(NAMES, "1")
            ).SerializeToString()
        ],
    ],
    ids=["name", "names", "same-name", "type", "node", "types", "entry", "initial-versions"],
)
async def test_excessive_requests_are_answered_or_rejected(frames: Iterable[bytes]) -> None:
    async with serving() as harness:
        code, _ = await exchange(harness.port, frames, delta=True)
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
        await still_serves(harness)


@both
async def test_a_repeated_name_is_sent_once(delta: bool) -> None:
    async with serving() as harness, open_stream(harness.port, delta=delta) as call:
        await call.write(make_request(ENDPOINT, *["chat/v1"] * 1_000, "chat/v2", delta=delta))
        raw = await asyncio.wait_for(call.read(), 10)
        kind = wire.DeltaDiscoveryResponse if delta else wire.DiscoveryResponse
        assert len(kind.FromString(raw).resources) == 2


async def test_a_stream_rejected_during_a_write_ends_alone() -> None:
    async with serving() as harness:
        harness.publish(configs.snapshot(configs.group(500, shadow=True)))
        nonsense = [
            make_request(CLUSTER),
            make_request(LISTENER),
            *(make_request(f"type-{n}", "x") for n in range(2)),
            b"\xff\xff\xff",
        ]
        for _ in range(60):
            code, _ = await exchange(harness.port, nonsense, delta=True)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert harness.pushing is not None
            assert not harness.pushing.done()
        await still_serves(harness)


async def test_unknown_types_share_one_metric_label() -> None:
    async with serving() as harness, open_stream(harness.port, delta=True) as call:
        for number in range(3):
            await call.write(make_request(f"type-{number}", "x"))
            response = wire.DeltaDiscoveryResponse.FromString(await asyncio.wait_for(call.read(), 10))
            answer = wire.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            await call.write(answer.SerializeToString())
        await until(lambda: harness.hub.counters.acks == {"other": 3})


async def test_many_clients_that_do_not_read_delay_no_other_client() -> None:
    async with serving(write_seconds=30) as harness, AsyncExitStack() as stuck:
        good = Clients("127.0.0.1", harness.port, "chat", prefix="good")
        await good.connect(1)
        await until(lambda: synced(harness) == 1)
        harness.group_snapshots["stuck"] = large_snapshot(1, 8 * MEGABYTE)
        for number in range(80):
            call = await stuck.enter_async_context(open_stream(harness.port, delta=True))
            await call.write(make_request(CLUSTER, node=f"stuck-{number}", group="stuck"))
        await until(lambda: len(harness.hub.proxies()) == 81)
        harness.publish(configs.snapshot(configs.group(700)))
        await until(lambda: synced(harness) == 1)
        assert harness.hub.counters.slow_clients_closed == 0
        good.close()
