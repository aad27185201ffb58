"""The IR → Envoy's messages, one file per resource type; messages leave it as name + bytes + version (pure).

Nothing outside this package imports envoy-data-plane.
"""

from xds_server.translate.listeners import Scripts
from xds_server.translate.render import render
from xds_server.translate.resources import Resource, holds_whole_table, resources
from xds_server.translate.versions import discovers_virtual_hosts, is_envoy, reduced, served_as, too_old

__all__ = [
    "Resource",
    "Scripts",
    "discovers_virtual_hosts",
    "holds_whole_table",
    "is_envoy",
    "reduced",
    "render",
    "resources",
    "served_as",
    "too_old",
]
