"""What proxies tell of the requests they carried: counts of one leg, in blocks of time (pure, and light)."""

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets, nearest_edge
from xds_server.analysis.counts.counts import (
    Block,
    Counts,
    Leg,
    Role,
    added,
    block_of_json,
    block_to_json,
    by_route,
    counts_of_json,
    counts_to_json,
    of_values,
    to_values,
)

__all__ = [
    "DURATION_MS",
    "FIRST_TOKEN_MS",
    "TOKENS",
    "Block",
    "Buckets",
    "Counts",
    "Leg",
    "Role",
    "added",
    "block_of_json",
    "block_to_json",
    "by_route",
    "counts_of_json",
    "counts_to_json",
    "nearest_edge",
    "of_values",
    "to_values",
]
