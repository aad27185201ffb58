"""Discovery streams over gRPC, and the hub that pushes worlds into them (I/O)."""

from xds_server.ads.fleet import Fleet
from xds_server.ads.hub import Hub, proxies_of
from xds_server.ads.service import Server
from xds_server.ads.stream import Stream

__all__ = ["Fleet", "Hub", "Server", "Stream", "proxies_of"]
