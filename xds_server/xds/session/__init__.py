"""The discovery protocol without I/O: requests in, events and responses out."""

from xds_server.xds.session.events import (
    Acked,
    ClientResource,
    Event,
    Identified,
    Nacked,
    NodeInfo,
    ProtocolError,
    ResourceStatus,
    Resumed,
    Stale,
)
from xds_server.xds.session.node_identity import (
    DEFAULT_TEMPLATES,
    IdentityRule,
    NodeDeniedError,
    Peer,
    TemplateError,
    parse_rule,
    vet,
)
from xds_server.xds.session.probe_rollout import Nack, Offer, ProbeRollout, Stage
from xds_server.xds.session.session import Session
from xds_server.xds.session.variant import Delta, ProtocolVariant, StateOfTheWorld

__all__ = [
    "DEFAULT_TEMPLATES",
    "Acked",
    "ClientResource",
    "Delta",
    "Event",
    "Identified",
    "IdentityRule",
    "Nack",
    "Nacked",
    "NodeDeniedError",
    "NodeInfo",
    "Offer",
    "Peer",
    "ProbeRollout",
    "ProtocolError",
    "ProtocolVariant",
    "ResourceStatus",
    "Resumed",
    "Session",
    "Stage",
    "Stale",
    "StateOfTheWorld",
    "TemplateError",
    "parse_rule",
    "vet",
]
