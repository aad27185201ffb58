"""Frozen read models, shared by CLI, web pages, API and metrics (pure)."""

from xds_server.view.model import (
    AnalysisView,
    Convergence,
    CostView,
    EventView,
    GuardView,
    KillView,
    ProxyStatus,
    ProxyView,
    RouteView,
    StepNow,
    StepView,
    to_json,
)
from xds_server.view.route import route_view

__all__ = [
    "AnalysisView",
    "Convergence",
    "CostView",
    "EventView",
    "GuardView",
    "KillView",
    "ProxyStatus",
    "ProxyView",
    "RouteView",
    "StepNow",
    "StepView",
    "route_view",
    "to_json",
]
