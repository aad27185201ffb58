"""Runtime fractions of the IR → Envoy's runtime layer (pure).

Besides one limit for regular expressions, the layer holds only shares that differ from the routes' defaults,
so it stays small. Starting a shadow, or using a kill switch, changes no other resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.service.runtime.v3 import Runtime
from envoy_data_plane.google.protobuf import Struct

if TYPE_CHECKING:
    from xds_server import ir

__all__ = ["RUNTIME_LAYER", "runtime"]

RUNTIME_LAYER: Final = "shiftplane"
# By default Envoy rejects a whole route table for one regular expression longer than a few words, and a list
# of values becomes a regular expression. Specs limit the length of these expressions, and matching takes
# linear time.
_PROGRAM_SIZE: Final = {"re2.max_program_size.error_level": 100_000}


def runtime(virtual_hosts: tuple[ir.VirtualHost, ...]) -> Runtime:
    """Return the layer: by key, the current share of each runtime fraction that differs from its default."""
    shares = {
        route.runtime_fraction.key: {"numerator": route.runtime_fraction.now, "denominator": "TEN_THOUSAND"}
        for host in virtual_hosts
        for route in host.routes
        if route.runtime_fraction is not None and route.runtime_fraction.now != route.runtime_fraction.default
    }
    layer = dict(sorted({**shares, **_PROGRAM_SIZE}.items()))
    return Runtime(name=RUNTIME_LAYER, layer=Struct.from_dict(layer))
