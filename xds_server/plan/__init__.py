"""Spec and rollout state → intermediate representation (pure)."""

from xds_server.plan.assignment import Assignment, assign_request
from xds_server.plan.attributes import claim_header, header_of
from xds_server.plan.plan import COLLECTOR, plan, route_table
from xds_server.plan.traffic import RouteTraffic

__all__ = [
    "COLLECTOR",
    "Assignment",
    "RouteTraffic",
    "assign_request",
    "claim_header",
    "header_of",
    "plan",
    "route_table",
]
