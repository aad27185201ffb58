"""Evidence as a stream: all there is, then what is new, and after a break on from there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio

from mirror_collector.serve.evidence import METHOD
from mirror_collector.wire import evidence_pb2 as wire
from tests.collector.builders import document
from xds_server.sources import EvidenceBlocks, EvidenceSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.collector.running import Collector
    from xds_server.analysis.verdicts import PairCounts

    Start = Callable[..., AbstractAsyncContextManager[Collector]]


async def put(collector: Collector, *names: str) -> None:
    await collector.post([document(role, name) for name in names for role in ("primary", "shadow")])


async def watched(collector: Collector, *, store: str = "", cursor: int = 0) -> Any:
    """Return the first answer that is current."""
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


async def test_what_was_counted_comes_once(start: Start) -> None:
    async with start() as collector:
        empty = await watched(collector)
        assert (len(empty.blocks), empty.cursor) == (0, 0)
        await put(collector, "a", "b")
        await collector.pairs_when(2)
        first = await watched(collector)
        (block,) = first.blocks
        assert (block.route, block.pairs, block.counted, block.trios) == ("chat", 2, 2, 0)
        assert block.signs["failed"].same == 2
        assert block.tokens["shadow"] == 6
        again = await watched(collector, store=first.store, cursor=first.cursor)
        assert not again.blocks
        collector.clock.now += 60
        await put(collector, "c")
        await collector.pairs_when(3)
        later = await watched(collector, store=first.store, cursor=first.cursor)
        assert [one.pairs for one in later.blocks] == [1]
        other = await watched(collector, store="another store", cursor=first.cursor)
        assert sum(one.pairs for one in other.blocks) == 3, "another store's cursor means nothing"


async def test_a_block_that_counted_on_replaces_itself(start: Start) -> None:
    async with start() as collector:
        await put(collector, "a")
        await collector.pairs_when(1)
        first = await watched(collector)
        await put(collector, "b")
        await collector.pairs_when(2)
        second = await watched(collector, store=first.store, cursor=first.cursor)
        assert first.blocks[0].begins == second.blocks[0].begins
        known = EvidenceBlocks()
        for response in (first, second, second):
            known.add(response.store, response.blocks)
        counts = known.counts("chat", "v1", "v2", 0.0)
        assert counts is not None
        assert counts.pairs == 2


async def test_a_source_goes_on_after_a_restart_and_adds_collectors_up(start: Start) -> None:
    async with start() as collector:
        await put(collector, "a")
        await collector.pairs_when(1)
        address = str(collector.at.grpc)
        # Both addresses lead to one collector: nothing counts twice.
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


def block(begins: int, pairs: int, comparator: int = 2) -> Any:
    return wire.Block(
        route="chat",
        primary_variant="v1",
        shadow_variant="v2",
        comparator=comparator,
        begins=begins,
        pairs=pairs,
        counted=pairs,
    )


def test_blocks_of_several_stores_add_up_and_old_ones_are_kept_together() -> None:
    known = EvidenceBlocks()
    known.add("one", [block(10 * n, 1) for n in range(1000)])
    known.add("two", [block(10 * n, 2) for n in range(1000)])
    found = known.counts("chat", "v1", "v2", 0.0)
    assert found is not None
    assert found.pairs == 3000
    known.add("one", [block(9_990, 5)])
    found = known.counts("chat", "v1", "v2", 0.0)
    assert found is not None
    assert found.pairs == 3004
    found = known.counts("chat", "v1", "v2", 9_985.0)
    assert found is not None
    assert found.pairs == 7, "a later shadow counts from its own beginning"


def test_counts_of_another_comparison_do_not_mix() -> None:
    known = EvidenceBlocks()
    known.add("one", [block(0, 5, comparator=2), block(10, 7, comparator=3), block(20, 9, comparator=2)])
    found = known.counts("chat", "v1", "v2", 0.0)
    assert found is not None
    assert found.pairs == 7
