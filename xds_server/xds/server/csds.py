"""Envoy's client status service (CSDS): which resources each connected proxy was sent, ACKed and NACKed.

It has the same content as `shiftplane proxies`, in the format of Envoy's own tools. With mutual TLS, a client
receives only the status of nodes that its certificate matches. The response covers the streams of one
process: with several workers, another connection may reach another worker.

A long response does not delay pushes: it is composed a few streams at a time, and the event loop runs other
tasks in between. A streamed response is sent in parts. A unary response has a limited number of nodes; above
that, the call fails with an error that names the alternatives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError

from xds_server.xds.session import ResourceStatus
from xds_server.xds.wire import discovery_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.xds.server.hub import Hub
    from xds_server.xds.server.node_authorizer import NodeAuthorizer
    from xds_server.xds.server.stream import Stream

__all__ = ["SERVICE", "handlers"]

_STREAMS_PER_PART: Final = 16
_MAX_UNARY_NODES: Final = 512
_STREAMS_PER_TURN: Final = 256

SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"

_CONFIG_STATUS: Final = {
    ResourceStatus.SYNCED: status_pb2.SYNCED,
    ResourceStatus.NOT_SENT: status_pb2.NOT_SENT,
    ResourceStatus.SENT: status_pb2.STALE,
    ResourceStatus.NACKED: status_pb2.ERROR,
}


def handlers(hub: Hub, authorizer: NodeAuthorizer) -> grpc.GenericRpcHandler:
    """Return the gRPC handlers of the service."""

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for raw in requests:
            streams, bodies = await _selected(hub, authorizer, raw, context)
            async for part in _parts(hub, streams, bodies=bodies):
                yield part.SerializeToString()

    async def fetch(raw: bytes, context: Any) -> bytes:
        streams, bodies = await _selected(hub, authorizer, raw, context)
        if len(streams) > _MAX_UNARY_NODES:
            message = (
                f"the request selects {len(streams)} nodes, and FetchClientStatus returns at most "
                f"{_MAX_UNARY_NODES}; select fewer with node_matchers, or call StreamClientStatus"
            )
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        whole = status_pb2.ClientStatusResponse()
        async for part in _parts(hub, streams, bodies=bodies):
            whole.MergeFrom(part)
        return whole.SerializeToString()

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "StreamClientStatus": grpc.stream_stream_rpc_method_handler(stream),
            "FetchClientStatus": grpc.unary_unary_rpc_method_handler(fetch),
        },
    )


async def _selected(
    hub: Hub, authorizer: NodeAuthorizer, raw: bytes, context: Any
) -> tuple[tuple[Stream, ...], bool]:
    """Return the streams that a request selects, and whether to include the resource bodies."""
    try:
        request = status_pb2.ClientStatusRequest.FromString(raw)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a ClientStatusRequest")
        return (), False  # Not reached: abort raises.
    matchers = [matcher.node_id for matcher in request.node_matchers]
    may_see = authorizer.visibility(context)
    found: list[Stream] = []
    for number, stream in enumerate(hub.streams()):
        if number % _STREAMS_PER_TURN == 0:
            await asyncio.sleep(0)
        selected = not matchers or any(_matches(matcher, stream.node_id) for matcher in matchers)
        if selected and may_see(stream):
            found.append(stream)
    return tuple(found), not request.exclude_resource_contents


async def _parts(
    hub: Hub, streams: tuple[Stream, ...], *, bodies: bool
) -> AsyncIterator[status_pb2.ClientStatusResponse]:
    """Yield the status of `streams`, a few at a time, without those closed meanwhile; at least one part."""
    for first in range(0, max(1, len(streams)), _STREAMS_PER_PART):
        part = (stream for stream in streams[first : first + _STREAMS_PER_PART] if hub.is_open(stream))
        yield status_pb2.ClientStatusResponse(config=[_config(stream, bodies=bodies) for stream in part])
        await asyncio.sleep(0)


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
                config_status=_CONFIG_STATUS[item.status],
                error_state=status_pb2.UpdateFailureState(details=item.error) if item.error else None,
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
