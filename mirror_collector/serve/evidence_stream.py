"""The evidence service: a gRPC stream of all stored evidence blocks, and of each block written later.

A client that reconnects continues at its cursor; see ``protos/evidence.proto``. A slow client delays nothing:
the next blocks are read from the store when the client is ready for them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from mirror_collector.compare import BLOCK_SECONDS
from mirror_collector.store import StoreError
from mirror_collector.wire import evidence_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirror_collector.store import Store, StoredEvidenceBlock

__all__ = ["METHOD", "evidence_handler"]

METHOD: Final = "/shiftplane.evidence.v1.EvidenceService/Watch"

_POLL_INTERVAL: Final = 0.5
_MAX_WATCHERS: Final = 32


def evidence_handler(store: Store) -> grpc.GenericRpcHandler:
    """Return the gRPC handler of the evidence service."""
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
        if self._watchers >= _MAX_WATCHERS:
            detail = (
                f"the maximum of {_MAX_WATCHERS} concurrent evidence streams is reached; close one and retry"
            )
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, detail)
        self._watchers += 1
        try:
            cursor = request.cursor if request.store == self._store.store_id else 0
            async for response in self._responses(cursor):
                yield response
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            self._watchers -= 1

    async def _responses(self, cursor: int) -> AsyncIterator[Any]:
        current = False
        while True:
            blocks = await self._store.evidence(cursor) if self._store.evidence_seq > cursor else []
            if blocks:
                cursor = blocks[-1].seq
            if blocks or not current:
                current = self._store.evidence_seq <= cursor
                yield wire.WatchResponse(
                    store=self._store.store_id,
                    cursor=cursor,
                    blocks=[_message(block) for block in blocks],
                    current=current,
                )
            if not blocks:
                await asyncio.sleep(_POLL_INTERVAL)


def _message(block: StoredEvidenceBlock) -> Any:
    counts = block.counts
    message = wire.Block(
        route=block.route,
        primary_variant=block.primary_variant,
        shadow_variant=block.shadow_variant,
        comparator=block.comparator,
        begins=block.begins,
        length=BLOCK_SECONDS,
        tokens=counts["tokens"],
        **{name: counts[name] for name in _NUMBERS},
    )
    _add_signs(message.signs, counts["signs"])
    for api, of_api in counts.get("apis", {}).items():
        _add_api(message.apis[api], of_api)
    return message


def _add_api(message: Any, counts: dict[str, Any]) -> None:
    coverage = counts["coverage"]
    message.pairs, message.trios = counts["pairs"], counts["trios"]
    message.counted, message.read = coverage["pairs"], coverage["read"]
    message.unread_pairs = coverage["unread"]
    for leg, reason, n in coverage["unread_legs"]:
        message.unread.add(leg=leg, reason=reason, answers=n)
    _add_signs(message.signs, counts["signs"])


def _add_signs(target: Any, signs: dict[str, list[int]]) -> None:
    for measure, (less, more, same) in signs.items():
        target[measure].CopyFrom(wire.Signs(less=less, more=more, same=same))


_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")
