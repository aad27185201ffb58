"""The two ways to speak xDS, reduced to what differs between them: the shape of requests and responses."""

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

    from xds_server.xds.snapshot import Entry

__all__ = ["Delta", "ProtocolVariant", "Request", "Response", "StateOfTheWorld", "head"]

_METADATA_KEY = "shiftplane"
_SHORT: Final = 127  # the longest length that fits one byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of either flavour. `error` is None for an acceptance; `holds` maps names to versions."""

    type_url: str
    node: NodeInfo | None
    nonce: str
    error: str | None
    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...] = ()
    holds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response of either flavour, before it is bytes and has its nonce."""

    type_url: str
    identifier: str
    version: str
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]


class ProtocolVariant(Protocol):
    """How one variant of the protocol reads requests and writes responses."""

    def __hash__(self) -> int: ...

    @property
    def full_sets(self) -> bool:
        """Whether responses for clusters and listeners must hold all of them."""

    def parse(self, raw: bytes) -> Request:
        """Read a request; ProtocolError for anything else."""

    def serialize(self, response: Response) -> bytes:
        """Write a response."""

    def with_nonce(self, shared: bytes, nonce: str) -> bytes:
        """Add the nonce to a written response that has none; fields may stand in any order."""


class _Nonced:
    def with_nonce(self, shared: bytes, nonce: str) -> bytes:
        """Add the nonce, which has the same field number in both flavours."""
        raw = nonce.encode()
        if len(raw) > _SHORT:
            raise ValueError(f"a nonce has at most {_SHORT} bytes, not {len(raw)}")
        return b"%b\x2a%c%b" % (shared, len(raw), raw)


class StateOfTheWorld(_Nonced):
    """DiscoveryRequest and DiscoveryResponse."""

    full_sets = True

    def parse(self, raw: bytes) -> Request:
        """Read a DiscoveryRequest."""
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
        """Write a DiscoveryResponse."""
        return wire.DiscoveryResponse(
            version_info=response.version,
            type_url=response.type_url,
            control_plane=wire.ControlPlane(identifier=response.identifier),
            resources=[entry.body for entry in response.entries],
        ).SerializeToString()


class Delta(_Nonced):
    """DeltaDiscoveryRequest and DeltaDiscoveryResponse."""

    full_sets = False

    def parse(self, raw: bytes) -> Request:
        """Read a DeltaDiscoveryRequest."""
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
            holds=dict(message.initial_resource_versions),
        )

    def serialize(self, response: Response) -> bytes:
        """Write a DeltaDiscoveryResponse."""
        return wire.DeltaDiscoveryResponse(
            system_version_info=response.version,
            type_url=response.type_url,
            control_plane=wire.ControlPlane(identifier=response.identifier),
            resources=[entry.delta for entry in response.entries],
            removed_resources=response.removed,
        ).SerializeToString()


@lru_cache(maxsize=64)
def head(
    flavour: ProtocolVariant,
    type_url: str,
    identifier: str,
    version: str,
    entries: tuple[Entry, ...],
    removed: tuple[str, ...],
) -> bytes:
    """Return a response without its nonce, written once for all clients that are told the same."""
    return flavour.serialize(
        Response(type_url=type_url, identifier=identifier, version=version, entries=entries, removed=removed)
    )


def _names(given: Iterable[str]) -> tuple[str, ...]:
    # Thousands of clients follow the same names: one copy of each is enough.
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
