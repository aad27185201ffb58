"""The HTTP server: API, web pages, authentication and Prometheus metrics (I/O)."""

from xds_server.web.authenticator import Authenticator
from xds_server.web.connection_limit import listen
from xds_server.web.first_run_token import create_first_run_token
from xds_server.web.metrics import registry
from xds_server.web.oidc import OidcProvider
from xds_server.web.server import Site, build, operations
from xds_server.web.settings import Access, load_access

__all__ = [
    "Access",
    "Authenticator",
    "OidcProvider",
    "Site",
    "build",
    "create_first_run_token",
    "listen",
    "load_access",
    "operations",
    "registry",
]
