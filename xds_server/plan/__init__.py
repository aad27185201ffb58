"""Spec and rollout state → IR (pure)."""

from xds_server.plan.plan import COLLECTOR, Traffic, plan
from xds_server.plan.slots import Segment, Share, segments

__all__ = ["COLLECTOR", "Segment", "Share", "Traffic", "plan", "segments"]
