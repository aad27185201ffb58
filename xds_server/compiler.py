"""Specs and rollout states → named, versioned resources, with the rules asked in between (pure).

The one way from intent to bytes: the engine publishes what comes out of here, and `shiftplane plan` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server import ir
from xds_server.ir import UnsafeConfigError
from xds_server.plan import Traffic, plan
from xds_server.translate import Scripts, resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xds_server.xds.snapshot import Resource

__all__ = ["UnsafeConfigError", "compile_resources"]


def compile_resources(
    proxies: ir.NodeClass,
    traffic: Sequence[Traffic],
    scripts: Scripts,
    *,
    collector: ir.Address | None,
    reads_usage: bool = True,
) -> tuple[Resource, ...]:
    """Return everything one class of proxies is served; routes of other groups are left out.

    Raises:
        WorldError: It would break a rule that protects users.
    """
    own = [item for item in traffic if item.route.spec.proxies.group == proxies.group]
    world = plan(proxies, own, collector, reads_usage=reads_usage)
    if broken := ir.violations(world):
        raise UnsafeConfigError("; ".join(broken))
    return resources(world, scripts)
