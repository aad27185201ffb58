"""Request counts that proxies report, per leg and block of time (pure, few imports)."""

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets, nearest_edge
from xds_server.analysis.counts.counts import (
    CELL_NUMBERS,
    FAILURE_KINDS,
    UNREAD_REASONS,
    Block,
    Counts,
    Leg,
    Role,
    add_counts,
    block_from_json,
    block_to_json,
    cell_counts,
    counts_from_json,
    counts_from_values,
    counts_to_json,
    counts_to_values,
    group_by_route,
    leg_from_json,
)
from xds_server.analysis.counts.json_fields import read_field
from xds_server.analysis.counts.outcomes import Outcome

__all__ = [
    "CELL_NUMBERS",
    "DURATION_MS",
    "FAILURE_KINDS",
    "FIRST_TOKEN_MS",
    "TOKENS",
    "UNREAD_REASONS",
    "Block",
    "Buckets",
    "Counts",
    "Leg",
    "Outcome",
    "Role",
    "add_counts",
    "block_from_json",
    "block_to_json",
    "cell_counts",
    "counts_from_json",
    "counts_from_values",
    "counts_to_json",
    "counts_to_values",
    "group_by_route",
    "leg_from_json",
    "nearest_edge",
    "read_field",
]
