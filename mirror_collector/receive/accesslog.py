"""Envoy's gRPC access log service.

Messages arrive as raw bytes and are parsed here, entry by entry: an entry that cannot be read is counted and
the stream goes on. Nothing is ever answered before the proxy closes the stream; it does not wait for answers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from mirror_collector.exchange import Exposure, Rejection, parse_entry, parse_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirror_collector.receive.intake import Intake

__all__ = ["METHOD", "AccessLogServer"]

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_MAX_MESSAGE: Final = 64 << 20
_BREATH: Final = 64
"""Entries after which the other tasks of the loop get their turn."""


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


class AccessLogServer:
    """The gRPC door on one address."""

    def __init__(self, intake: Intake, *others: grpc.GenericRpcHandler) -> None:
        """Serve what `others` answer at the same address."""
        self._handlers = (_Handler(intake), *others)
        self._server: Any = None

    async def start(self, address: str) -> int:
        """Listen on ``host:port`` and return the port; raises OSError where that is not possible."""
        self._server = grpc.aio.server(
            handlers=self._handlers,
            options=(
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                # Two collectors on one port would each see half of the legs.
                ("grpc.so_reuseport", 0),
                # A proxy that vanished without a word must not hold its stream for ever.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ),
        )
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC: {error}") from error
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Refuse new streams at once, end the open ones after `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)
