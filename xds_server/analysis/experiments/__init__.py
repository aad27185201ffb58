"""A/B tests: sample sizes and the evaluation at the end (pure)."""

from xds_server.analysis.experiments.evaluation import (
    ExperimentFinding,
    ExperimentReport,
    Hypothesis,
    VariantCounts,
    evaluate,
)
from xds_server.analysis.experiments.exposures import Exposures
from xds_server.analysis.experiments.proportions import (
    Column,
    Comparison,
    Interval,
    chi_square,
    compare,
    describe_unnamed,
    newcombe,
)
from xds_server.analysis.experiments.sample_ratio import holm, sample_ratio_mismatch
from xds_server.analysis.experiments.sample_size import (
    FORMULAS,
    Formula,
    SampleSizePlan,
    Sides,
    minimum_detectable_effect,
    plan_sample_size,
    sample_size_per_group,
)

__all__ = [
    "FORMULAS",
    "Column",
    "Comparison",
    "ExperimentFinding",
    "ExperimentReport",
    "Exposures",
    "Formula",
    "Hypothesis",
    "Interval",
    "SampleSizePlan",
    "Sides",
    "VariantCounts",
    "chi_square",
    "compare",
    "describe_unnamed",
    "evaluate",
    "holm",
    "minimum_detectable_effect",
    "newcombe",
    "plan_sample_size",
    "sample_ratio_mismatch",
    "sample_size_per_group",
]
