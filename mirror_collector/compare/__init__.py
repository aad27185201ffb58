"""What differs between the answers of a pair, and the sums over many pairs.

Pure. It judges nothing: it measures, and it says what could not be measured.
"""

from __future__ import annotations

from mirror_collector.compare.collector_totals import Counts, Ledger, PairKey
from mirror_collector.compare.comparison import (
    AGREEMENT,
    VERSION,
    ComparedPair,
    Comparison,
    Likeness,
    Measures,
    Replies,
    TokenSource,
    compare,
)
from mirror_collector.compare.confidence_sequence import always_valid
from mirror_collector.compare.evidence import BLOCK, Block, block_of
from mirror_collector.compare.histogram import Histogram
from mirror_collector.compare.language import language
from mirror_collector.compare.outcomes import MEASURES, Signs, SignTable, has_floor, signs_of
from mirror_collector.compare.similarity import edit_similarity, rouge_l
from mirror_collector.compare.totals import LegTally, Mean, PairTally, RouteTally, Share
from mirror_collector.compare.traits import TRAITS, Traits, asks_for_json, traits

__all__ = [
    "AGREEMENT",
    "BLOCK",
    "MEASURES",
    "TRAITS",
    "VERSION",
    "Block",
    "ComparedPair",
    "Comparison",
    "Counts",
    "Histogram",
    "Ledger",
    "LegTally",
    "Likeness",
    "Mean",
    "Measures",
    "PairKey",
    "PairTally",
    "Replies",
    "RouteTally",
    "Share",
    "SignTable",
    "Signs",
    "TokenSource",
    "Traits",
    "always_valid",
    "asks_for_json",
    "block_of",
    "compare",
    "edit_similarity",
    "has_floor",
    "language",
    "rouge_l",
    "signs_of",
    "traits",
]
