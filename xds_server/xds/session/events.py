"""What a session tells its shell, and what it refuses.

ProtocolError
    The client broke the protocol; the stream must end with INVALID_ARGUMENT. Always the peer's fault.
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
    """The client broke the protocol; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """Who is at the other end. `metadata` holds what the bootstrap said under the key `shiftplane`."""

    id: str
    group: str
    version: str
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """The first request of the stream named its node; nothing is sent before a world is offered."""

    node: NodeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """The client took the last response of this type."""

    type_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nacked:
    """The client refused a response and keeps what it had; `message` holds its own words, shortened.

    Those words may quote configuration: treat them as sensitive.
    """

    type_url: str
    names: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The client holds resources of this type from an earlier stream: versions by name. None was sent yet."""

    type_url: str
    holds: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A request spoke of a response that has been replaced since."""

    type_url: str


class ResourceStatus(Enum):
    """How one resource of one client stands."""

    HELD = "held"
    """The client accepted what it should have."""
    SENT = "sent"
    """Sent, and not yet answered; or not yet sent anew."""
    UNSENT = "unsent"
    """Followed by the client and not yet sent."""
    REFUSED = "refused"
    """The client refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientResource:
    """One resource a client follows or holds; `version` and `body` are what it accepted last."""

    type_url: str
    name: str
    version: str
    body: bytes
    standing: ResourceStatus
    words: str = ""


Event = Identified | Acked | Nacked | Resumed | Stale
