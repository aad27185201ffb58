"""The bucket edges of all histograms; proxies count by them, and verdicts read them.

All proxies use the same edges, so that their counts add up. From 10 up, each edge is about a quarter above
the one before: a median that rises by a tenth moves enough requests over an edge to be seen, and the messages
with the counts stay small.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["DURATION_MS", "FIRST_TOKEN_MS", "TOKENS", "Buckets", "nearest_edge"]

Buckets = tuple[int, ...]
"""Counts per bucket: one for each edge (values up to it), and one for values above the last edge."""

_DECADE: Final = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
_SHORT: Final = (1.0, 2.0, 4.0, 6.3)


def _edges(first: float, last: float, steps: tuple[float, ...]) -> tuple[float, ...]:
    edges: list[float] = []
    scale = 1.0
    while scale <= last:
        edges.extend(round(step * scale, 6) for step in steps if first <= step * scale <= last)
        scale *= 10
    return tuple(edges)


FIRST_TOKEN_MS: Final = (*_edges(1, 9.9, _SHORT), *_edges(10, 20_000, _DECADE))
"""Milliseconds from the request headers to the first byte of the response body."""

DURATION_MS: Final = (*_edges(1, 9.9, _SHORT), *_edges(10, 200_000, _DECADE))
"""Total milliseconds of a request."""

TOKENS: Final = (*_edges(1, 9.9, _SHORT), *_edges(10, 20_000, _DECADE))
"""Completion tokens of a response."""


def nearest_edge(edges: tuple[float, ...], value: float) -> int:
    """Return the index of the first edge that is not below `value`; the last index if there is none."""
    return min(bisect_left(edges, value), len(edges) - 1)
