"""The two variants of xDS, SotW (full state) and delta: how requests and responses are encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Final, Protocol

from google.protobuf.message import DecodeError

from xds_server.xds.session.events import NodeInfo, ProtocolError
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.xds.snapshot import Resource

__all__ = ["Delta", "ProtocolVariant", "Request", "Response", "Sotw", "serialize_without_nonce"]

_METADATA_KEY = "shiftplane"
_MAX_NONCE_BYTES: Final = 127  # the largest length that protobuf encodes in one byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of either variant.

    `error` is None unless the request is a NACK. `initial_versions` are the names and versions that a
    reconnecting delta client reports.
    """

    type_url: str
    node: NodeInfo | None
    nonce: str
    error: str | None
    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response of either variant, before it is serialized and gets its nonce."""

    type_url: str
    identifier: str
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]


class ProtocolVariant(Protocol):
    """Parses the requests and serializes the responses of one variant of the protocol."""

    def __hash__(self) -> int: ...

    @property
    def full_sets(self) -> bool:
        """Whether a response for a wildcard type must contain all its resources."""

    def parse(self, raw: bytes) -> Request:
        """Return the parsed request.

        Raises:
            ProtocolError: The bytes are not a request of this variant.
        """

    def serialize(self, response: Response) -> bytes:
        """Return the encoded response, without a nonce."""

    def with_nonce(self, shared: bytes, nonce: str) -> bytes:
        """Return `shared`, an encoded response, with a nonce appended: protobuf allows any field order."""


class _Nonced:
    def with_nonce(self, shared: bytes, nonce: str) -> bytes:
        """Append the nonce, which has the same field number in both variants."""
        raw = nonce.encode()
        if len(raw) > _MAX_NONCE_BYTES:
            raise ValueError(f"a nonce has at most {_MAX_NONCE_BYTES} bytes, not {len(raw)}")
        return b"%b\x2a%c%b" % (shared, len(raw), raw)


class Sotw(_Nonced):
    """The SotW (full state) variant: DiscoveryRequest and DiscoveryResponse."""

    full_sets = True

    def parse(self, raw: bytes) -> Request:
        """Parse a DiscoveryRequest."""
        try:
            message = wire.DiscoveryRequest.FromString(raw)
        except DecodeError as error:
            raise ProtocolError("the request is not a DiscoveryRequest") from error
        return Request(
            type_url=message.type_url,
            node=_node(message.node) if message.HasField("node") else None,
            nonce=message.response_nonce,
            error=message.error_detail.message if message.HasField("error_detail") else None,
            subscribe=_names(message.resource_names),
        )

    def serialize(self, response: Response) -> bytes:
        """Serialize a DiscoveryResponse."""
        return wire.DiscoveryResponse(
            version_info=response.version,
            type_url=response.type_url,
            control_plane=wire.ControlPlane(identifier=response.identifier),
            resources=[resource.body for resource in response.resources],
        ).SerializeToString()


class Delta(_Nonced):
    """The delta variant: DeltaDiscoveryRequest and DeltaDiscoveryResponse."""

    full_sets = False

    def parse(self, raw: bytes) -> Request:
        """Parse a DeltaDiscoveryRequest."""
        try:
            message = wire.DeltaDiscoveryRequest.FromString(raw)
        except DecodeError as error:
            raise ProtocolError("the request is not a DeltaDiscoveryRequest") from error
        return Request(
            type_url=message.type_url,
            node=_node(message.node) if message.HasField("node") else None,
            nonce=message.response_nonce,
            error=message.error_detail.message if message.HasField("error_detail") else None,
            subscribe=_names(message.resource_names_subscribe),
            unsubscribe=_names(message.resource_names_unsubscribe),
            initial_versions=dict(message.initial_resource_versions),
        )

    def serialize(self, response: Response) -> bytes:
        """Serialize a DeltaDiscoveryResponse."""
        return wire.DeltaDiscoveryResponse(
            system_version_info=response.version,
            type_url=response.type_url,
            control_plane=wire.ControlPlane(identifier=response.identifier),
            resources=[resource.delta for resource in response.resources],
            removed_resources=response.removed,
        ).SerializeToString()


@lru_cache(maxsize=64)
def serialize_without_nonce(
    variant: ProtocolVariant,
    type_url: str,
    identifier: str,
    version: str,
    resources: tuple[Resource, ...],
    removed: tuple[str, ...],
) -> bytes:
    """Return a response without its nonce, serialized once for all clients that are sent this content."""
    return variant.serialize(
        Response(
            type_url=type_url,
            identifier=identifier,
            version=version,
            resources=resources,
            removed=removed,
        )
    )


def _names(given: Iterable[str]) -> tuple[str, ...]:
    # Thousands of clients subscribe to the same names: interning keeps one copy of each.
    return tuple(map(intern, given))


def _node(message: wire.Node) -> NodeInfo:
    version = message.user_agent_build_version.version
    ours = message.metadata.fields.get(_METADATA_KEY)
    fields = {} if ours is None else ours.struct_value.fields
    return NodeInfo(
        id=message.id,
        group=intern(message.cluster),
        version=intern(f"{version.major_number}.{version.minor_number}.{version.patch}"),
        metadata=tuple(sorted((key, value.string_value) for key, value in fields.items())),
    )
