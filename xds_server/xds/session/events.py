"""Events that a session reports to the server, and the error it raises.

ProtocolError
    The client violated the xDS protocol; the stream must end with INVALID_ARGUMENT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Acked",
    "ClientResource",
    "Event",
    "Identified",
    "Nacked",
    "NodeInfo",
    "ProtocolError",
    "ResourceStatus",
    "Resumed",
    "Stale",
]


class ProtocolError(Exception):
    """The client violated the protocol; the message names the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """The node of a client: id, group (`node.cluster`) and Envoy version.

    `metadata` holds the fields under the key `shiftplane` of the node metadata, set by our bootstrap.
    """

    id: str
    group: str
    version: str
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """The first request of the stream arrived with its node; no response is sent before `Session.offer`."""

    node: NodeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """The client ACKed the last response of this type."""

    type_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nacked:
    """The client NACKed a response and keeps its previous configuration.

    `message` is the client's error message, truncated. It may quote configuration: treat it as sensitive.
    """

    type_url: str
    names: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A delta client reported resources of an earlier stream, in its first request for this type.

    `versions` are its `initial_resource_versions`, by name.
    """

    type_url: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A request carried another nonce than that of the newest response of its type."""

    type_url: str


class ResourceStatus(Enum):
    """How one resource of one client compares with the snapshot."""

    SYNCED = "synced"
    """The client ACKed the version in the snapshot."""
    SENT = "sent"
    """Sent and not ACKed yet, or changed since it was sent."""
    NOT_SENT = "not_sent"
    """Subscribed to and not sent yet."""
    NACKED = "nacked"
    """The client NACKed the last response that contained it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientResource:
    """One resource that a client subscribed to or has; `version` and `body` are the last ACKed ones.

    `error` is the client's message if it NACKed the resource.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    status: ResourceStatus
    error: str = ""


Event = Identified | Acked | Nacked | Resumed | Stale
