"""What collectors counted of pairs, as a stream from each; nothing waits for it, nothing fails with it.

A stream that breaks is taken up where it was; a block that is sent again replaces itself, so nothing counts
twice, also where two addresses lead to one collector. Counts of all collectors add up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import structlog

from xds_server.analysis.verdicts import ComparisonCounts, PairCounts
from xds_server.sources.wire import evidence_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["EvidenceBlocks", "EvidenceSource"]

_METHOD: Final = "/shiftplane.evidence.v1.EvidenceService/Watch"
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 15.0
_SETTLED: Final = 3_600
"""Seconds after which no collector counts on in a block."""
_MOST: Final = 20_000
"""Blocks of two backends kept while nobody asks for them; the oldest go first and count no more."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Known:
    """Blocks of two backends by store and beginning, and what those too old to change came to."""

    comparator: int = 0
    since: float = 0.0
    old: PairCounts = field(default_factory=PairCounts)
    recent: dict[tuple[str, int], PairCounts] = field(default_factory=dict)


class EvidenceBlocks:
    """All blocks of all stores, by whose they are (pure)."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[tuple[str, str, str], _Known] = defaultdict(_Known)

    def add(self, store: str, blocks: Iterable[Any]) -> None:
        """Take in blocks of a store; the newest counts of a block are the ones that count."""
        for block in blocks:
            known = self._known[block.route, block.primary_variant, block.shadow_variant]
            if block.comparator > known.comparator:
                # Counts of different comparisons do not mix.
                known.comparator, known.old, known.recent = block.comparator, PairCounts(), {}
            if block.comparator < known.comparator or block.begins < known.since:
                continue
            known.recent[store, block.begins] = _counts(block)
            while len(known.recent) > _MOST:
                del known.recent[next(iter(known.recent))]

    def counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        """Return the sum of the blocks that began after `since`; None where there are none.

        Who asks for a later `since` than before will not ask for an earlier one again: a shadow began anew.
        """
        known = self._known.get((route, stable, candidate))
        if known is None:
            return None
        if since != known.since:
            known.since, known.old = since, PairCounts()
            known.recent = {key: counts for key, counts in known.recent.items() if key[1] >= since}
        if known.recent:
            settled = max(begins for _, begins in known.recent) - _SETTLED
            done = [key for key in known.recent if key[1] < settled]
            known.old = PairCounts.sum((known.old, *(known.recent.pop(key) for key in done)))
        found = PairCounts.sum((known.old, *known.recent.values()))
        return found if found.pairs else None


class EvidenceSource:
    """The streams of all collectors; `addresses` are ``host:port`` of their gRPC doors."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Nothing is asked for before `run`."""
        self._addresses = tuple(addresses)
        self._blocks = EvidenceBlocks()
        self.connected: set[str] = set()

    def counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        """Return what was counted of two backends since then, by all collectors; None for nothing."""
        return self._blocks.counts(route, stable, candidate, since)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for address in self._addresses:
                tasks.create_task(self._watch(address))

    async def _watch(self, address: str) -> None:
        store, cursor, wait = "", 0, _FIRST_WAIT
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
                        store, cursor, wait = response.store, response.cursor, _FIRST_WAIT
                        if address not in self.connected:
                            self.connected.add(address)
                            log.info("evidence_stream_open", collector=address)
                except grpc.aio.AioRpcError as error:
                    reason = f"{error.code().name}: {error.details()}"
                else:
                    reason = "the collector ended it"
                if address in self.connected or wait == _FIRST_WAIT:
                    log.warning("evidence_stream_lost", collector=address, reason=reason)
                self.connected.discard(address)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)


def _counts(block: Any) -> PairCounts:
    return PairCounts(
        pairs=block.pairs,
        client_left=block.client_left,
        limited=block.limited,
        counted=block.counted,
        trios=block.trios,
        repeated=block.repeated,
        outcomes={
            name: ComparisonCounts(less=signs.less, more=signs.more, same=signs.same)
            for name, signs in block.signs.items()
        },
        tokens=dict(block.tokens),
    )
