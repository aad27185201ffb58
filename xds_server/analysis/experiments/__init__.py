"""A/B tests: how many users it takes, and what may be said at the end (pure)."""

from xds_server.analysis.experiments.planning import (
    FORMULAS,
    Formula,
    Plan,
    Sides,
    detectable,
    per_group,
    plan,
)
from xds_server.analysis.experiments.proportions import (
    Column,
    Comparison,
    Interval,
    chi_square,
    compare,
    newcombe,
    readings,
)
from xds_server.analysis.experiments.report import Arm, Asked, Finding, Report, report
from xds_server.analysis.experiments.shares import holm, mismatch

__all__ = [
    "FORMULAS",
    "Arm",
    "Asked",
    "Column",
    "Comparison",
    "Finding",
    "Formula",
    "Interval",
    "Plan",
    "Report",
    "Sides",
    "chi_square",
    "compare",
    "detectable",
    "holm",
    "mismatch",
    "newcombe",
    "per_group",
    "plan",
    "readings",
    "report",
]
