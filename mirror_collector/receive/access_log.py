"""Envoy's gRPC access log service.

Messages are received as raw bytes and parsed entry by entry: an invalid entry is counted, and the stream
continues. The response is sent when the proxy closes the stream; Envoy does not wait for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

from mirror_collector.exchange import Exposure, Rejection, parse_entry, parse_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirror_collector.receive.queue import LegQueue

__all__ = ["METHOD", "access_log_handler"]

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_YIELD_EVERY: Final = 64
"""Number of entries after which other tasks of the event loop may run."""


def access_log_handler(queue: LegQueue) -> grpc.GenericRpcHandler:
    """Return the gRPC handler of the access log service; it puts the received legs into `queue`."""
    return _Handler(queue)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    def __init__(self, queue: LegQueue) -> None:
        self._queue = queue
        self._method = grpc.stream_unary_rpc_method_handler(self._stream)

    def service(self, handler_call_details: Any) -> Any:
        return self._method if handler_call_details.method == METHOD else None

    async def _stream(self, messages: AsyncIterator[bytes], _context: Any) -> bytes:
        node = ""
        async for data in messages:
            message = parse_message(data)
            if isinstance(message, Rejection):
                self._queue.reject(message)
                continue
            node = message.node or node
            for i, entry in enumerate(message.entries, start=1):
                self._receive(entry, node)
                if i % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        return b""  # an empty StreamAccessLogsResponse

    def _receive(self, entry: bytes, node: str) -> None:
        parsed = parse_entry(entry, node=node, max_body=self._queue.limits.max_body)
        if isinstance(parsed, Rejection):
            self._queue.reject(parsed)
        elif isinstance(parsed, Exposure):
            self._queue.add_exposure(parsed)
        else:
            self._queue.put(parsed)
