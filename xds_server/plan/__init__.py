"""Spec and rollout state → IR (pure)."""

from xds_server.plan.attributes import claim_header
from xds_server.plan.plan import COLLECTOR, plan
from xds_server.plan.traffic import Traffic

__all__ = ["COLLECTOR", "Traffic", "claim_header", "plan"]
