"""The IR → Envoy's messages, one file per resource type; messages leave it as name + bytes + version (pure).

Nothing outside this package imports envoy-data-plane.
"""

from xds_server.translate.listeners import Scripts
from xds_server.translate.render import render
from xds_server.translate.resources import resources

__all__ = ["Scripts", "render", "resources"]
