"""Frozen read models, shared by terminal, pages and metrics (pure)."""

from xds_server.view.model import (
    Convergence,
    EventView,
    ProxyStatus,
    ProxyView,
    RouteView,
    StepNow,
    StepView,
    to_json,
)

__all__ = [
    "Convergence",
    "EventView",
    "ProxyStatus",
    "ProxyView",
    "RouteView",
    "StepNow",
    "StepView",
    "to_json",
]
