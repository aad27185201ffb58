"""The xDS server: discovery services over gRPC, and the hub that pushes snapshots to streams (I/O)."""

from xds_server.xds.server.credentials import Certificates, CertificatesError, TlsFiles
from xds_server.xds.server.hub import Hub
from xds_server.xds.server.listener_config import ListenerConfig
from xds_server.xds.server.node_authorizer import NodeAuthorizer
from xds_server.xds.server.node_class import node_class_of
from xds_server.xds.server.service import Server
from xds_server.xds.server.stream import Stream

__all__ = [
    "Certificates",
    "CertificatesError",
    "Hub",
    "ListenerConfig",
    "NodeAuthorizer",
    "Server",
    "Stream",
    "TlsFiles",
    "node_class_of",
]
