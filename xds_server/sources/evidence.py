"""Receive comparison counts from collectors, over one gRPC stream per collector.

A broken stream only delays evidence, and resumes at its cursor. A block of the last hour that is sent again
replaces its earlier version, so its pairs are not counted twice, even if two addresses lead to the same
collector. The counts of all collectors add up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import structlog

from xds_server.analysis.verdicts import ApiCounts, ComparisonCounts, PairCounts
from xds_server.retry import RetryPolicy
from xds_server.sources.wire import evidence_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["EvidenceBlocks", "EvidenceSource"]

_METHOD: Final = "/shiftplane.evidence.v1.EvidenceService/Watch"
_RETRY: Final = RetryPolicy(first_delay=0.5, longest_delay=15.0)
_SETTLED_SECONDS: Final = 3_600
"""Age after which no collector changes a block any more."""
_MAX_RECENT_BLOCKS: Final = 20_000
"""Maximum number of blocks of two backends between calls of `counts`; the oldest above it are dropped."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Comparison:
    """The blocks of two backends by store and start time, and the sum of the blocks that are settled."""

    comparator: int = 0
    since: float = 0.0
    settled: PairCounts = field(default_factory=PairCounts)
    recent: dict[tuple[str, int], PairCounts] = field(default_factory=dict)


class EvidenceBlocks:
    """The blocks of all collectors' stores, by route and backends (pure)."""

    def __init__(self) -> None:
        """Start without blocks."""
        self._comparisons: dict[tuple[str, str, str], _Comparison] = defaultdict(_Comparison)

    def add(self, store: str, blocks: Iterable[Any]) -> None:
        """Add blocks of a store; a newer version of a block replaces the older one."""
        for block in blocks:
            found = self._comparisons[block.route, block.primary_variant, block.shadow_variant]
            if block.comparator > found.comparator:
                # Counts of different comparator versions must not be added up.
                found.comparator, found.settled, found.recent = block.comparator, PairCounts(), {}
            if block.comparator < found.comparator or block.begins < found.since:
                continue
            found.recent[store, block.begins] = _counts(block)
            while len(found.recent) > _MAX_RECENT_BLOCKS:
                del found.recent[next(iter(found.recent))]

    def counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        """Return the sum of the blocks that began at or after `since`; None if there are none.

        `since` is the start of the current shadow step and only increases, so earlier blocks are dropped.
        """
        found = self._comparisons.get((route, stable, candidate))
        if found is None:
            return None
        if since != found.since:
            found.since, found.settled = since, PairCounts()
            found.recent = {key: counts for key, counts in found.recent.items() if key[1] >= since}
        if found.recent:
            settled_before = max(begins for _, begins in found.recent) - _SETTLED_SECONDS
            settled = [key for key in found.recent if key[1] < settled_before]
            found.settled = PairCounts.sum((found.settled, *(found.recent.pop(key) for key in settled)))
        total = PairCounts.sum((found.settled, *found.recent.values()))
        return total if total.pairs else None


class EvidenceSource:
    """The streams of all collectors; `addresses` are their gRPC addresses as ``host:port``."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Create a source that connects to no collector before `run`."""
        self._addresses = tuple(addresses)
        self._blocks = EvidenceBlocks()
        self.connected: set[str] = set()

    def counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        """Return the counts of two backends since a time (epoch seconds), of all collectors; None if none."""
        return self._blocks.counts(route, stable, candidate, since)

    async def run(self) -> None:
        """Receive blocks until canceled."""
        async with asyncio.TaskGroup() as tasks:
            for address in self._addresses:
                tasks.create_task(self._watch(address))

    async def _watch(self, address: str) -> None:
        store, cursor, failures = "", 0, 0
        options = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000))
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = channel.unary_stream(
                _METHOD,
                request_serializer=wire.WatchRequest.SerializeToString,
                response_deserializer=wire.WatchResponse.FromString,
            )
            while True:
                try:
                    async for response in call(wire.WatchRequest(store=store, cursor=cursor)):
                        self._blocks.add(response.store, response.blocks)
                        store, cursor, failures = response.store, response.cursor, 0
                        if address not in self.connected:
                            self.connected.add(address)
                            log.info("evidence_stream_opened", collector=address)
                except grpc.aio.AioRpcError as error:
                    reason = f"{error.code().name}: {error.details()}"
                else:
                    reason = "the collector closed the stream"
                if address in self.connected or failures == 0:
                    log.warning("evidence_stream_closed", collector=address, reason=reason)
                self.connected.discard(address)
                await asyncio.sleep(_RETRY.delay(failures))
                failures += 1


def _counts(block: Any) -> PairCounts:
    return PairCounts(
        pairs=block.pairs,
        client_left=block.client_left,
        limited=block.limited,
        counted=block.counted,
        trios=block.trios,
        repeated=block.repeated,
        outcomes=_outcomes(block.signs),
        tokens=dict(block.tokens),
        apis={name: _api_counts(api) for name, api in block.apis.items()},
    )


def _api_counts(api: Any) -> ApiCounts:
    return ApiCounts(
        pairs=api.pairs,
        counted=api.counted,
        read=api.read,
        unread=api.unread_pairs,
        trios=api.trios,
        outcomes=_outcomes(api.signs),
        unread_legs={(one.leg, one.reason): one.answers for one in api.unread},
    )


def _outcomes(signs: Any) -> dict[str, ComparisonCounts]:
    return {
        name: ComparisonCounts(less=one.less, more=one.more, same=one.same) for name, one in signs.items()
    }
