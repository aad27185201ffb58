"""The node class of a client, derived from its first request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.ir.versions import discovers_virtual_hosts, served_as

if TYPE_CHECKING:
    from xds_server.xds.session import NodeInfo

__all__ = ["node_class_of"]

_MAX_PORT_DIGITS: Final = 5
_LAST_PORT: Final = 65_535
_DEFAULT_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)


def node_class_of(node: NodeInfo, *, aggregated_delta: bool = False) -> ir.NodeClass:
    """Return the node class of a node; the metadata in its bootstrap contains the entry listener's address.

    An Envoy that supports VHDS discovers each virtual host individually on an aggregated delta stream.
    """
    metadata = dict(node.metadata)
    host, _, port = metadata.get("entry", "").rpartition(":")
    # Metadata is untrusted input: int() raises for thousands of digits.
    valid = host and port.isdecimal() and len(port) <= _MAX_PORT_DIGITS and 0 < int(port) <= _LAST_PORT
    entry = ir.Address(host=host.strip("[]"), port=int(port)) if valid else _DEFAULT_ENTRY
    return ir.NodeClass(
        group=node.group,
        entry=entry,
        envoy=served_as(node.version),
        virtual_hosts_apart=aggregated_delta and discovers_virtual_hosts(node.version),
    )
