"""Discovery streams over gRPC, and the hub that pushes worlds into them (I/O)."""

from xds_server.ads.credentials import Certificates, CertificatesError, TlsFiles
from xds_server.ads.door import Door
from xds_server.ads.fleet import Fleet
from xds_server.ads.guard import Guard
from xds_server.ads.hub import Hub, proxies_of
from xds_server.ads.keeper import Patience
from xds_server.ads.service import Server
from xds_server.ads.stream import Stream

__all__ = [
    "Certificates",
    "CertificatesError",
    "Door",
    "Fleet",
    "Guard",
    "Hub",
    "Patience",
    "Server",
    "Stream",
    "TlsFiles",
    "proxies_of",
]
