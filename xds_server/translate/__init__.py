"""IR → Envoy messages, one module per resource type; the result is name, bytes and version (pure).

No other package imports envoy-data-plane.
"""

from xds_server.translate.listeners import Scripts
from xds_server.translate.render import render
from xds_server.translate.resources import resources

__all__ = ["Scripts", "render", "resources"]
