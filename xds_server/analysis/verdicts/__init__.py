"""Verdicts on a candidate: blocks of counts in, a finding with its numbers out (pure)."""

from xds_server.analysis.verdicts.candidate import (
    AnalysisResult,
    Arm,
    CandidateEvidence,
    MetricVerdict,
    fresh,
    heard,
    ruling,
)
from xds_server.analysis.verdicts.equivalence import (
    ComparisonCounts,
    Equivalence,
    EquivalenceResult,
    MeasureResult,
    PairCounts,
    likeness,
)
from xds_server.analysis.verdicts.from_spec import policy_from_spec
from xds_server.analysis.verdicts.metrics import METRICS, Kind, Metric, Price, cost
from xds_server.analysis.verdicts.policy import (
    ALPHA,
    Comparison,
    Guardrail,
    Policy,
    RegressionAction,
    Threshold,
)
from xds_server.analysis.verdicts.replay import Decision, Played, played
from xds_server.analysis.verdicts.route_analysis import RouteAnalysis

__all__ = [
    "ALPHA",
    "METRICS",
    "AnalysisResult",
    "Arm",
    "CandidateEvidence",
    "Comparison",
    "ComparisonCounts",
    "Decision",
    "Equivalence",
    "EquivalenceResult",
    "Guardrail",
    "Kind",
    "MeasureResult",
    "Metric",
    "MetricVerdict",
    "PairCounts",
    "Played",
    "Policy",
    "Price",
    "RegressionAction",
    "RouteAnalysis",
    "Threshold",
    "cost",
    "fresh",
    "heard",
    "likeness",
    "played",
    "policy_from_spec",
    "ruling",
]
