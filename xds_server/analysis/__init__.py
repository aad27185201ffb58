"""Verdicts on a candidate: blocks of counts in, a finding with its numbers out (pure)."""

from xds_server.analysis.asked import policy_of
from xds_server.analysis.docket import Docket
from xds_server.analysis.judge import Arm, Case, MetricVerdict, Ruling, fresh, heard, ruling
from xds_server.analysis.likeness import Likeness, Opinion, PairCounts, Resemblance, Signs, likeness
from xds_server.analysis.metrics import METRICS, Kind, Metric, Price, cost
from xds_server.analysis.policy import ALPHA, Action, Comparison, Guardrail, Policy, Threshold
from xds_server.analysis.replay import Decision, Played, played

__all__ = [
    "ALPHA",
    "METRICS",
    "Action",
    "Arm",
    "Case",
    "Comparison",
    "Decision",
    "Docket",
    "Guardrail",
    "Kind",
    "Likeness",
    "Metric",
    "MetricVerdict",
    "Opinion",
    "PairCounts",
    "Played",
    "Policy",
    "Price",
    "Resemblance",
    "Ruling",
    "Signs",
    "Threshold",
    "cost",
    "fresh",
    "heard",
    "likeness",
    "played",
    "policy_of",
    "ruling",
]
