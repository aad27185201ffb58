"""Verdicts on a candidate: blocks of counts in, a finding with its numbers out (pure).

`candidate.analyze` decides Pass, Fail or no verdict; a Fail rolls the candidate back. `metrics.METRICS` lists
the metrics: add a metric there. `policy` has the parameters, `spec_policy` reads them from the spec, and
`route_analysis` collects the counts of one route into blocks.
"""

from xds_server.analysis.verdicts.candidate import (
    AnalysisResult,
    ArmSummary,
    CandidateEvidence,
    MetricVerdict,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.analysis.verdicts.equivalence import (
    ApiResult,
    Equivalence,
    EquivalenceResult,
    MeasureResult,
    assess_equivalence,
)
from xds_server.analysis.verdicts.metrics import METRICS, Kind, Metric, Price, cost
from xds_server.analysis.verdicts.pair_counts import UNKNOWN_API, ApiCounts, ComparisonCounts, PairCounts
from xds_server.analysis.verdicts.pair_summary import PairSummary
from xds_server.analysis.verdicts.policy import (
    ALPHA,
    ComparisonOperator,
    Guardrail,
    Policy,
    RegressionAction,
    Threshold,
)
from xds_server.analysis.verdicts.replay import Decision, ReplayedRun, replay
from xds_server.analysis.verdicts.route_analysis import RouteAnalysis
from xds_server.analysis.verdicts.spec_policy import policy_from_spec

__all__ = [
    "ALPHA",
    "METRICS",
    "UNKNOWN_API",
    "AnalysisResult",
    "ApiCounts",
    "ApiResult",
    "ArmSummary",
    "CandidateEvidence",
    "ComparisonCounts",
    "ComparisonOperator",
    "Decision",
    "Equivalence",
    "EquivalenceResult",
    "Guardrail",
    "Kind",
    "MeasureResult",
    "Metric",
    "MetricVerdict",
    "PairCounts",
    "PairSummary",
    "Policy",
    "Price",
    "RegressionAction",
    "ReplayedRun",
    "RouteAnalysis",
    "Threshold",
    "add_block",
    "analyze",
    "assess_equivalence",
    "cost",
    "policy_from_spec",
    "replay",
    "start_evidence",
]
