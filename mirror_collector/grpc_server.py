"""The gRPC server of the collector: one address for the access log service and the evidence service."""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio

__all__ = ["GrpcServer"]

_MAX_MESSAGE: Final = 64 << 20


class GrpcServer:
    """A plaintext gRPC server that serves `handlers` on one address."""

    def __init__(self, *handlers: grpc.GenericRpcHandler) -> None:
        self._handlers = handlers
        self._server: Any = None

    async def start(self, address: str) -> int:
        """Listen on ``host:port`` and return the port; raises OSError if the address cannot be bound."""
        self._server = grpc.aio.server(
            handlers=self._handlers,
            options=(
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                # Two collectors on one port would each receive half of the legs.
                ("grpc.so_reuseport", 0),
                # Without keepalive, a stream stays open forever if its proxy vanished without closing it.
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
        """Reject new streams immediately and close open ones after `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)
