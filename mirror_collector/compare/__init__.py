"""Comparison of the legs of a pair, and totals over many pairs.

Pure: no I/O, no clock. This package measures and counts; verdicts are made by the control plane.
"""

from __future__ import annotations

from mirror_collector.compare.answers import ANSWER_MEASURES
from mirror_collector.compare.collector_totals import CollectorTotals, LegCounts, PairKey
from mirror_collector.compare.comparison import (
    AGREEMENT_MEASURES,
    VERSION,
    Agreement,
    ComparedPair,
    Comparison,
    LegMeasures,
    Replies,
    TokenSource,
    compare,
)
from mirror_collector.compare.confidence_sequence import confidence_sequence
from mirror_collector.compare.evidence import BLOCK_SECONDS, ApiCounts, EvidenceBlock, block_start
from mirror_collector.compare.histogram import Histogram
from mirror_collector.compare.language import detect_language
from mirror_collector.compare.outcomes import (
    MEASURES,
    ComparisonOutcomes,
    OutcomesByMeasure,
    has_baseline,
    outcomes_of,
)
from mirror_collector.compare.readability import Coverage
from mirror_collector.compare.similarity import edit_similarity, rouge_l
from mirror_collector.compare.totals import LegTotals, Mean, PairTotals, Proportion, RouteTotals
from mirror_collector.compare.traits import TRAITS, Traits, detect_traits, requests_json

__all__ = [
    "AGREEMENT_MEASURES",
    "ANSWER_MEASURES",
    "BLOCK_SECONDS",
    "MEASURES",
    "TRAITS",
    "VERSION",
    "Agreement",
    "ApiCounts",
    "CollectorTotals",
    "ComparedPair",
    "Comparison",
    "ComparisonOutcomes",
    "Coverage",
    "EvidenceBlock",
    "Histogram",
    "LegCounts",
    "LegMeasures",
    "LegTotals",
    "Mean",
    "OutcomesByMeasure",
    "PairKey",
    "PairTotals",
    "Proportion",
    "Replies",
    "RouteTotals",
    "TokenSource",
    "Traits",
    "block_start",
    "compare",
    "confidence_sequence",
    "detect_language",
    "detect_traits",
    "edit_similarity",
    "has_baseline",
    "outcomes_of",
    "requests_json",
    "rouge_l",
]
