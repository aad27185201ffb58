"""The discovery protocol without I/O: requests in, events and responses out."""

from xds_server.protocol.events import (
    Accepted,
    Event,
    Identified,
    Item,
    NodeInfo,
    ProtocolError,
    Rejected,
    Returned,
    Stale,
    Standing,
)
from xds_server.protocol.flavour import Delta, Flavour, StateOfTheWorld
from xds_server.protocol.identity import (
    DEFAULT_TEMPLATES,
    IdentityRefusedError,
    IdentityRule,
    Peer,
    TemplateError,
    parse_rule,
    vet,
)
from xds_server.protocol.ring import Offer, Refusal, Ring, Stage
from xds_server.protocol.session import Session

__all__ = [
    "DEFAULT_TEMPLATES",
    "Accepted",
    "Delta",
    "Event",
    "Flavour",
    "Identified",
    "IdentityRefusedError",
    "IdentityRule",
    "Item",
    "NodeInfo",
    "Offer",
    "Peer",
    "ProtocolError",
    "Refusal",
    "Rejected",
    "Returned",
    "Ring",
    "Session",
    "Stage",
    "Stale",
    "Standing",
    "StateOfTheWorld",
    "TemplateError",
    "parse_rule",
    "vet",
]
