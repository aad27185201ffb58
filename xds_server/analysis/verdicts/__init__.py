"""Verdicts on a candidate: blocks of counts in, a finding with its numbers out (pure).

`candidate.analyze` decides Pass, Fail or no verdict; a Fail rolls the candidate back. `metrics.METRICS` lists
the metrics: add a metric there. `policy` has the parameters, `spec_policy` reads them from the spec, and
`route_analysis` collects the counts of one route into blocks.
"""

from xds_server.analysis.verdicts.analyzed_block import (
    AnalyzedBlock,
    BlockContext,
    analyzed_block_from_json,
    analyzed_block_to_json,
)
from xds_server.analysis.verdicts.candidate import (
    CandidateEvidence,
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
from xds_server.analysis.verdicts.faults import proves_fault
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
from xds_server.analysis.verdicts.result import AnalysisResult, ArmSummary, MetricVerdict
from xds_server.analysis.verdicts.route_analysis import LONGEST_BLOCK, Arms, RouteAnalysis
from xds_server.analysis.verdicts.spec_policy import policy_from_spec, replaced_guards

__all__ = [
    "ALPHA",
    "LONGEST_BLOCK",
    "METRICS",
    "UNKNOWN_API",
    "AnalysisResult",
    "AnalyzedBlock",
    "ApiCounts",
    "ApiResult",
    "ArmSummary",
    "Arms",
    "BlockContext",
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
    "analyzed_block_from_json",
    "analyzed_block_to_json",
    "assess_equivalence",
    "cost",
    "policy_from_spec",
    "proves_fault",
    "replaced_guards",
    "replay",
    "start_evidence",
]
