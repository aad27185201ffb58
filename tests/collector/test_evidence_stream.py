"""The evidence stream: all blocks, then new blocks, and continuation after a reconnect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio

from mirror_collector.serve.evidence_stream import METHOD
from mirror_collector.wire import evidence_pb2 as wire
from tests.collector.builders import document
from xds_server.sources import EvidenceBlocks, EvidenceSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.collector.running import Collector
    from xds_server.analysis.verdicts import PairCounts

    Start = Callable[..., AbstractAsyncContextManager[Collector]]


async def send_pairs(collector: Collector, *names: str) -> None:
    await collector.post([document(role, name) for name in names for role in ("primary", "shadow")])


async def watch_until_current(collector: Collector, *, store: str = "", cursor: int = 0) -> Any:
    """Return the first response that is current."""
    async with grpc.aio.insecure_channel(str(collector.at.grpc)) as channel:
        call = channel.unary_stream(
            METHOD,
            request_serializer=wire.WatchRequest.SerializeToString,
            response_deserializer=wire.WatchResponse.FromString,
        )
        async with asyncio.timeout(10):
            async for response in call(wire.WatchRequest(store=store, cursor=cursor)):
                if response.current:
                    return response
    raise AssertionError("the stream ended")


async def test_each_block_is_sent_once(start: Start) -> None:
    async with start() as collector:
        empty = await watch_until_current(collector)
        assert (len(empty.blocks), empty.cursor) == (0, 0)
        await send_pairs(collector, "a", "b")
        await collector.pairs_when(2)
        first = await watch_until_current(collector)
        (block,) = first.blocks
        assert (block.route, block.pairs, block.counted, block.trios) == ("chat", 2, 2, 0)
        assert block.signs["failed"].same == 2
        assert block.tokens["shadow"] == 6
        again = await watch_until_current(collector, store=first.store, cursor=first.cursor)
        assert not again.blocks
        collector.clock.now += 60
        await send_pairs(collector, "c")
        await collector.pairs_when(3)
        later = await watch_until_current(collector, store=first.store, cursor=first.cursor)
        assert [one.pairs for one in later.blocks] == [1]
        other = await watch_until_current(collector, store="another store", cursor=first.cursor)
        assert sum(one.pairs for one in other.blocks) == 3, "the cursor of another store is ignored"


async def test_a_block_with_more_pairs_replaces_its_earlier_version(start: Start) -> None:
    async with start() as collector:
        await send_pairs(collector, "a")
        await collector.pairs_when(1)
        first = await watch_until_current(collector)
        await send_pairs(collector, "b")
        await collector.pairs_when(2)
        second = await watch_until_current(collector, store=first.store, cursor=first.cursor)
        assert first.blocks[0].begins == second.blocks[0].begins
        blocks = EvidenceBlocks()
        for response in (first, second, second):
            blocks.add(response.store, response.blocks)
        counts = blocks.counts("chat", "v1", "v2", 0.0)
        assert counts is not None
        assert counts.pairs == 2


async def test_two_addresses_of_one_collector_are_counted_once(start: Start) -> None:
    async with start() as collector:
        await send_pairs(collector, "a")
        await collector.pairs_when(1)
        address = str(collector.at.grpc)
        # Both addresses belong to one collector, which is counted once.
        source = EvidenceSource([address, address.replace("127.0.0.1", "localhost")])
        running = asyncio.create_task(source.run())
        try:
            async with asyncio.timeout(10):
                while len(source.connected) < 2:
                    await asyncio.sleep(0.01)
                counts: PairCounts | None = None
                while counts is None:
                    counts = source.counts("chat", "v1", "v2", 0.0)
                    await asyncio.sleep(0.01)
            assert counts.pairs == 1
            assert source.counts("chat", "v1", "v2", collector.clock.now + 60) is None
        finally:
            running.cancel()


def make_block(begins: int, pairs: int, comparator: int = 2) -> Any:
    return wire.Block(
        route="chat",
        primary_variant="v1",
        shadow_variant="v2",
        comparator=comparator,
        begins=begins,
        pairs=pairs,
        counted=pairs,
    )


def test_blocks_of_several_stores_are_added_up() -> None:
    blocks = EvidenceBlocks()
    blocks.add("one", [make_block(10 * n, 1) for n in range(1000)])
    blocks.add("two", [make_block(10 * n, 2) for n in range(1000)])
    counts_ = blocks.counts("chat", "v1", "v2", 0.0)
    assert counts_ is not None
    assert counts_.pairs == 3000
    assert counts_.apis == {}, "these blocks are those of an earlier release"
    assert {api: one.read for api, one in counts_.by_api().items()} == {"unknown": 3000}
    blocks.add("one", [make_block(9_990, 5)])
    counts_ = blocks.counts("chat", "v1", "v2", 0.0)
    assert counts_ is not None
    assert counts_.pairs == 3004
    counts_ = blocks.counts("chat", "v1", "v2", 9_985.0)
    assert counts_ is not None
    assert counts_.pairs == 7, "counts start with the given time"


def test_counts_of_different_comparison_versions_are_not_added_up() -> None:
    blocks = EvidenceBlocks()
    blocks.add(
        "one",
        [make_block(0, 5, comparator=2), make_block(10, 7, comparator=3), make_block(20, 9, comparator=2)],
    )
    counts_ = blocks.counts("chat", "v1", "v2", 0.0)
    assert counts_ is not None
    assert counts_.pairs == 7
