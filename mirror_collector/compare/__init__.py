"""What differs between the two answers of a pair, and the sums over many pairs.

Pure. It judges nothing: it measures, and it says what could not be measured.
"""

from __future__ import annotations

from mirror_collector.compare.comparison import VERSION, Comparison, Measures, TokenSource, compare
from mirror_collector.compare.histogram import Histogram
from mirror_collector.compare.ledger import Counts, Ledger, PairKey
from mirror_collector.compare.tally import LegTally, PairTally, RouteTally, Share
from mirror_collector.compare.text import rouge_l

__all__ = [
    "VERSION",
    "Comparison",
    "Counts",
    "Histogram",
    "Ledger",
    "LegTally",
    "Measures",
    "PairKey",
    "PairTally",
    "RouteTally",
    "Share",
    "TokenSource",
    "compare",
    "rouge_l",
]
