"""Verdicts on a candidate: blocks of counts in, a finding with its numbers out (pure)."""

from xds_server.analysis.judge import Arm, Case, MetricVerdict, Ruling, fresh, heard, ruling
from xds_server.analysis.metrics import METRICS, Kind, Metric, Price, cost
from xds_server.analysis.policy import ALPHA, Action, Comparison, Guardrail, Policy, Threshold

__all__ = [
    "ALPHA",
    "METRICS",
    "Action",
    "Arm",
    "Case",
    "Comparison",
    "Guardrail",
    "Kind",
    "Metric",
    "MetricVerdict",
    "Policy",
    "Price",
    "Ruling",
    "Threshold",
    "cost",
    "fresh",
    "heard",
    "ruling",
]
