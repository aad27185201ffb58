"""Envoy's gRPC access log service.

Messages arrive as raw bytes and are parsed here, entry by entry: an entry that cannot be read is counted and
the stream goes on. Nothing is ever answered before the proxy closes the stream; it does not wait for answers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

from mirror_collector.exchange import Exposure, Rejection, parse_entry, parse_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirror_collector.receive.queue import Intake

__all__ = ["METHOD", "access_log_handler"]

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_BREATH: Final = 64
"""Entries after which the other tasks of the loop get their turn."""


def access_log_handler(intake: Intake) -> grpc.GenericRpcHandler:
    """Return the gRPC handler of the access log service; it puts legs into `intake`."""
    return _Handler(intake)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._method = grpc.stream_unary_rpc_method_handler(self._stream)

    def service(self, handler_call_details: Any) -> Any:
        return self._method if handler_call_details.method == METHOD else None

    async def _stream(self, messages: AsyncIterator[bytes], _context: Any) -> bytes:
        node = ""
        async for data in messages:
            message = parse_message(data)
            if isinstance(message, Rejection):
                self._intake.refuse(message)
                continue
            node = message.node or node
            for i, entry in enumerate(message.entries, start=1):
                self._accept(entry, node)
                if i % _BREATH == 0:
                    await asyncio.sleep(0)
        return b""  # an empty StreamAccessLogsResponse

    def _accept(self, entry: bytes, node: str) -> None:
        leg = parse_entry(entry, node=node, max_body=self._intake.limits.max_body)
        if isinstance(leg, Rejection):
            self._intake.refuse(leg)
        elif isinstance(leg, Exposure):
            self._intake.expose(leg)
        else:
            self._intake.offer(leg)
