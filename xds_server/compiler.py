"""Specs and rollout states → versioned xDS resources, checked against the safety rules (pure).

The engine publishes this result, and `shiftplane plan` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server import ir
from xds_server.ir import UnsafeConfigError
from xds_server.plan import RouteTraffic, plan
from xds_server.translate import Scripts, resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xds_server.xds.snapshot import Resource

__all__ = ["UnsafeConfigError", "compile_resources"]


def compile_resources(
    node_class: ir.NodeClass,
    traffic: Sequence[RouteTraffic],
    scripts: Scripts,
    *,
    collector: ir.Address | None,
    reads_usage: bool = True,
) -> tuple[Resource, ...]:
    """Return all resources of one node class; routes of other groups are ignored.

    Raises:
        UnsafeConfigError: The configuration would break a safety rule.
    """
    in_group = [item for item in traffic if item.route.spec.proxies.group == node_class.group]
    config = plan(node_class, in_group, collector, reads_usage=reads_usage)
    if problems := ir.violations(config):
        raise UnsafeConfigError("; ".join(problems))
    return resources(config, scripts)
