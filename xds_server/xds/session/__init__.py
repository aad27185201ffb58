"""The xDS protocol without I/O: requests in, events and responses out (pure)."""

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
    authorize_node,
    parse_rule,
)
from xds_server.xds.session.probe_rollout import Nack, Offer, ProbeRollout, Stage
from xds_server.xds.session.session import Session
from xds_server.xds.session.variant import Delta, ProtocolVariant, Sotw

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
    "Sotw",
    "Stage",
    "Stale",
    "TemplateError",
    "authorize_node",
    "parse_rule",
]
