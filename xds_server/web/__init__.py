"""The HTTP API, who may use it, and our own metrics (I/O)."""

from xds_server.web.authenticator import Authenticator
from xds_server.web.bounds import listen
from xds_server.web.first_token import first_token
from xds_server.web.metrics import registry
from xds_server.web.oidc import Provider
from xds_server.web.server import Site, build, operations
from xds_server.web.settings import Access, load_access

__all__ = [
    "Access",
    "Authenticator",
    "Provider",
    "Site",
    "build",
    "first_token",
    "listen",
    "load_access",
    "operations",
    "registry",
]
