"""The edges of all histograms: what proxies are told to count by, and what verdicts read.

Edges are shared by every proxy, so that counts of any number of them add up. They grow by about a quarter
from one to the next: a tenth more at the median moves enough requests over an edge to be seen, and one
message of a proxy stays small.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["DURATION_MS", "FIRST_TOKEN_MS", "TOKENS", "Buckets", "nearest_edge"]

Buckets = tuple[int, ...]
"""Counts per bucket: one for each edge (values up to it), and one for what lies above the last."""

_DECADE: Final = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
_SHORT: Final = (1.0, 2.0, 4.0, 6.3)


def _edges(first: float, last: float, steps: tuple[float, ...]) -> tuple[float, ...]:
    found: list[float] = []
    scale = 1.0
    while scale <= last:
        found.extend(round(step * scale, 6) for step in steps if first <= step * scale <= last)
        scale *= 10
    return tuple(found)


FIRST_TOKEN_MS: Final = (*_edges(1, 9.9, _SHORT), *_edges(10, 20_000, _DECADE))
"""Milliseconds from the end of the headers of a request to the first byte of the answer's body."""

DURATION_MS: Final = (*_edges(1, 9.9, _SHORT), *_edges(10, 200_000, _DECADE))
"""Milliseconds a request took as a whole."""

TOKENS: Final = (*_edges(1, 9.9, _SHORT), *_edges(10, 20_000, _DECADE))
"""Tokens of an answer."""


def nearest_edge(edges: tuple[float, ...], value: float) -> int:
    """Return the index of the first edge that is not below `value`; the last one for what lies above all."""
    return min(bisect_left(edges, value), len(edges) - 1)
