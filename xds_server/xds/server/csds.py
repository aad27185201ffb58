"""Envoy's client status service (CSDS): what every connected proxy was told, holds and refused.

The same truth as `shiftplane proxies`, in the form that Envoy's own tools read. Where clients show
certificates, each is told only of the nodes its certificate could be. It knows the streams of the process
that answers: with several acceptors, that is one of them, and another connection may meet another.

A long answer keeps no proxy waiting: it is made a few streams at a time, and others have their turn in
between. A stream is answered in parts; a single answer holds a bounded number of nodes, or says what to do.
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

_MOST_IN_A_PART: Final = 16
_MOST_AT_ONCE: Final = 512
_MOST_LOOKED_AT: Final = 256

SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"

_STATES: Final = {
    ResourceStatus.HELD: status_pb2.SYNCED,
    ResourceStatus.UNSENT: status_pb2.NOT_SENT,
    ResourceStatus.SENT: status_pb2.STALE,
    ResourceStatus.REFUSED: status_pb2.ERROR,
}


def handlers(hub: Hub, guard: NodeAuthorizer) -> grpc.GenericRpcHandler:
    """Return the handlers of the service."""

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for raw in requests:
            streams, bodies = await _selected(hub, guard, raw, context)
            async for part in _parts(hub, streams, bodies=bodies):
                yield part.SerializeToString()

    async def fetch(raw: bytes, context: Any) -> bytes:
        streams, bodies = await _selected(hub, guard, raw, context)
        if len(streams) > _MOST_AT_ONCE:
            words = (
                f"{len(streams)} nodes are more than {_MOST_AT_ONCE} at once; name some, or stream the status"
            )
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, words)
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
    hub: Hub, guard: NodeAuthorizer, raw: bytes, context: Any
) -> tuple[tuple[Stream, ...], bool]:
    """Return the streams a request is about, and whether it wants the resources themselves."""
    try:
        request = status_pb2.ClientStatusRequest.FromString(raw)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a ClientStatusRequest")
        return (), False  # The abort above has ended the call.
    matchers = [matcher.node_id for matcher in request.node_matchers]
    may_see = guard.may_see(context)
    found: list[Stream] = []
    for number, stream in enumerate(hub.streams()):
        if number % _MOST_LOOKED_AT == 0:
            await asyncio.sleep(0)
        named = not matchers or any(_matches(matcher, stream.node_id) for matcher in matchers)
        if named and may_see(stream):
            found.append(stream)
    return tuple(found), not request.exclude_resource_contents


async def _parts(
    hub: Hub, streams: tuple[Stream, ...], *, bodies: bool
) -> AsyncIterator[status_pb2.ClientStatusResponse]:
    """Yield the status of `streams`, a few at a time; who has left meanwhile is left out. Never nothing."""
    for first in range(0, max(1, len(streams)), _MOST_IN_A_PART):
        part = (stream for stream in streams[first : first + _MOST_IN_A_PART] if hub.has(stream))
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
