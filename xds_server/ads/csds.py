"""Envoy's client status service (CSDS): what every connected proxy was told, holds and refused.

The same truth as `shiftplane proxies`, in the form that Envoy's own tools read. Where clients show
certificates, each is told only of the nodes its certificate could be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError

from xds_server.protocol import Standing
from xds_server.wire import discovery_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.ads.guard import Guard
    from xds_server.ads.hub import Hub
    from xds_server.ads.stream import Stream

__all__ = ["SERVICE", "handlers"]

SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"

_STATES: Final = {
    Standing.HELD: status_pb2.SYNCED,
    Standing.UNSENT: status_pb2.NOT_SENT,
    Standing.SENT: status_pb2.STALE,
    Standing.REFUSED: status_pb2.ERROR,
}


def handlers(hub: Hub, guard: Guard) -> grpc.GenericRpcHandler:
    """Return the handlers of the service."""

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for raw in requests:
            yield await _answer(hub, guard, raw, context)

    async def fetch(raw: bytes, context: Any) -> bytes:
        return await _answer(hub, guard, raw, context)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "StreamClientStatus": grpc.stream_stream_rpc_method_handler(stream),
            "FetchClientStatus": grpc.unary_unary_rpc_method_handler(fetch),
        },
    )


async def _answer(hub: Hub, guard: Guard, raw: bytes, context: Any) -> bytes:
    try:
        request = status_pb2.ClientStatusRequest.FromString(raw)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a ClientStatusRequest")
        return b""  # The abort above has ended the call.
    matchers = [matcher.node_id for matcher in request.node_matchers]
    bodies = not request.exclude_resource_contents
    may_see = guard.may_see(context)
    return status_pb2.ClientStatusResponse(
        config=[
            _config(stream, bodies=bodies)
            for stream in hub.streams()
            if may_see(stream)
            and (not matchers or any(_matches(matcher, stream.node_id) for matcher in matchers))
        ]
    ).SerializeToString()


def _config(stream: Stream, *, bodies: bool) -> status_pb2.ClientConfig:
    node = discovery_pb2.Node(id=stream.node_id)
    if stream.session.node is not None:
        node.cluster = stream.session.node.group
    return status_pb2.ClientConfig(
        node=node.SerializeToString(),
        generic_xds_configs=[
            status_pb2.GenericXdsConfig(
                type_url=item.type_url,
                name=item.name,
                version_info=item.version,
                xds_config=item.body if bodies else b"",
                config_status=_STATES[item.standing],
                error_state=status_pb2.UpdateFailureState(details=item.words) if item.words else None,
            )
            for item in stream.session.inventory()
        ],
    )


def _matches(matcher: status_pb2.StringMatcher, node: str) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    wanted = "" if kind is None else getattr(matcher, kind)
    if matcher.ignore_case:
        node, wanted = node.lower(), wanted.lower()
    match kind:
        case "exact":
            return node == wanted
        case "prefix":
            return node.startswith(wanted)
        case "suffix":
            return node.endswith(wanted)
        case "contains":
            return wanted in node
        case _:
            return True
