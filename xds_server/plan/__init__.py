"""Spec and rollout state → IR (pure)."""

from xds_server.plan.plan import COLLECTOR, Traffic, plan

__all__ = ["COLLECTOR", "Segment", "Share", "Traffic", "plan", "segments"]
