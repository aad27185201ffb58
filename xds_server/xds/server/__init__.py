"""Discovery streams over gRPC, and the hub that pushes worlds into them (I/O)."""

from xds_server.xds.server.credentials import Certificates, CertificatesError, TlsFiles
from xds_server.xds.server.hub import Hub, proxies_of
from xds_server.xds.server.listener_config import ListenerConfig
from xds_server.xds.server.node_authorizer import NodeAuthorizer
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
    "proxies_of",
]
