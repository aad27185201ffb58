"""Endpoints that serve data: the HTTP API, the pages, the evidence stream and the metrics."""

from __future__ import annotations

from mirror_collector.serve.api import api_routes
from mirror_collector.serve.auth import AccessRole, auth_middleware
from mirror_collector.serve.evidence_stream import evidence_handler
from mirror_collector.serve.metrics import Gauges, MetricsCollector
from mirror_collector.serve.views import pair_view, summary_view

__all__ = [
    "AccessRole",
    "Gauges",
    "MetricsCollector",
    "api_routes",
    "auth_middleware",
    "evidence_handler",
    "pair_view",
    "summary_view",
]
