"""What the collector shows: the summary, lists of pairs, single pairs, health and metrics."""

from __future__ import annotations

from mirror_collector.serve.api import api_routes
from mirror_collector.serve.auth import access
from mirror_collector.serve.evidence_stream import evidence_handler
from mirror_collector.serve.metrics import Gauges, LedgerCollector
from mirror_collector.serve.views import pair_view, summary_view

__all__ = [
    "Gauges",
    "LedgerCollector",
    "access",
    "api_routes",
    "evidence_handler",
    "pair_view",
    "summary_view",
]
