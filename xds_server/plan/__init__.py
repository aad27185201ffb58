"""Spec and rollout state → IR (pure)."""

from xds_server.plan.assignment import Assignment, assigned
from xds_server.plan.attributes import claim_header, header_of
from xds_server.plan.plan import COLLECTOR, plan, route_table
from xds_server.plan.traffic import Traffic

__all__ = [
    "COLLECTOR",
    "Assignment",
    "Traffic",
    "assigned",
    "claim_header",
    "header_of",
    "plan",
    "route_table",
]
