"""Shares of the IR that are not what the routes say themselves → Envoy's runtime layer.

The layer says only what differs from the routes' own defaults, so it stays small, and a route that is copied
or killed changes nothing but this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.service.runtime.v3 import Runtime
from envoy_data_plane.google.protobuf import Struct

if TYPE_CHECKING:
    from xds_server import ir

__all__ = ["RUNTIME_LAYER", "runtime"]

RUNTIME_LAYER: Final = "shiftplane"
# Left alone, Envoy refuses a whole table for one regular expression that is longer than a few words, and a
# list of values is one. Specs bound their length; what is linear in it is cheap.
_PROGRAM_SIZE: Final = {"re2.max_program_size.error_level": 100_000}


def runtime(virtual_hosts: tuple[ir.VirtualHost, ...]) -> Runtime:
    """Return the layer: by its key, what each gate lets in now where that is not its default."""
    shares = {
        route.gate.key: {"numerator": route.gate.now, "denominator": "TEN_THOUSAND"}
        for host in virtual_hosts
        for route in host.routes
        if route.gate is not None and route.gate.now != route.gate.default
    }
    layer = dict(sorted({**shares, **_PROGRAM_SIZE}.items()))
    return Runtime(name=RUNTIME_LAYER, layer=Struct.from_dict(layer))
