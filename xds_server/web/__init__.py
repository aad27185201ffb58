"""The HTTP API and our own metrics (I/O)."""

from xds_server.web.api import build
from xds_server.web.metrics import registry

__all__ = ["build", "registry"]
