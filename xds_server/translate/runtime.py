"""Shares of the IR that may change without a route → Envoy's runtime layer.

The layer says what the routes say as their default, so a proxy that does not follow it behaves the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.service.runtime.v3 import Runtime
from envoy_data_plane.google.protobuf import Struct

if TYPE_CHECKING:
    from xds_server import ir

__all__ = ["RUNTIME_LAYER", "runtime"]

RUNTIME_LAYER: Final = "shiftplane"


def runtime(virtual_hosts: tuple[ir.VirtualHost, ...]) -> Runtime:
    """Return the layer with the share of requests each gate lets in now, by its key."""
    shares = {
        route.gate.key: {"numerator": route.gate.now, "denominator": "TEN_THOUSAND"}
        for host in virtual_hosts
        for route in host.routes
        if route.gate is not None
    }
    return Runtime(name=RUNTIME_LAYER, layer=Struct.from_dict(dict(sorted(shares.items()))))
