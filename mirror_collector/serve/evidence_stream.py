"""The evidence as a gRPC stream: what was counted so far, then what is counted, as it is written.

A client that breaks off goes on where it was; see ``protos/evidence.proto``. A slow client holds up nobody:
what it is sent next is read from the store when it is ready for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from mirror_collector.compare import BLOCK
from mirror_collector.store import StoreError
from mirror_collector.wire import evidence_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirror_collector.store import Store, StoredBlock

__all__ = ["METHOD", "evidence_handler"]

METHOD: Final = "/shiftplane.evidence.v1.EvidenceService/Watch"

_LOOKED_AT_EVERY: Final = 0.5
_MOST_WATCHERS: Final = 32


def evidence_handler(store: Store) -> grpc.GenericRpcHandler:
    """Return what answers the stream."""
    return _Handler(store)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    def __init__(self, store: Store) -> None:
        self._store = store
        self._watchers = 0
        self._method = grpc.unary_stream_rpc_method_handler(
            self._watch,
            request_deserializer=wire.WatchRequest.FromString,
            response_serializer=wire.WatchResponse.SerializeToString,
        )

    def service(self, handler_call_details: Any) -> Any:
        return self._method if handler_call_details.method == METHOD else None

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if self._watchers >= _MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MOST_WATCHERS} clients watch already")
        self._watchers += 1
        try:
            cursor = request.cursor if request.store == self._store.name else 0
            async for response in self._news(cursor):
                yield response
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            self._watchers -= 1

    async def _news(self, cursor: int) -> AsyncIterator[Any]:
        told = False
        while True:
            blocks = await self._store.evidence(cursor) if self._store.seq > cursor else []
            if blocks:
                cursor = blocks[-1].seq
            if blocks or not told:
                told = self._store.seq <= cursor
                yield wire.WatchResponse(
                    store=self._store.name,
                    cursor=cursor,
                    blocks=[_message(block) for block in blocks],
                    current=told,
                )
            if not blocks:
                await asyncio.sleep(_LOOKED_AT_EVERY)


def _message(block: StoredBlock) -> Any:
    counts = block.counts
    message = wire.Block(
        route=block.route,
        primary_variant=block.primary_variant,
        shadow_variant=block.shadow_variant,
        comparator=block.comparator,
        begins=block.begins,
        length=BLOCK,
        tokens=counts["tokens"],
        **{name: counts[name] for name in _NUMBERS},
    )
    for name, (less, more, same) in counts["signs"].items():
        message.signs[name].CopyFrom(wire.Signs(less=less, more=more, same=same))
    return message


_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")
