"""The equivalence verdict as JSON values (pure)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xds_server.analysis.verdicts import ApiResult, EquivalenceResult

__all__ = ["equivalence_view"]


def equivalence_view(result: EquivalenceResult | None) -> dict[str, Any] | None:
    """Return the verdict with its counts and measures as JSON values; None without a verdict."""
    if result is None:
        return None
    counts = result.counts
    return {
        "verdict": result.equivalence.value,
        "words": result.message,
        "pairs": counts.pairs,
        "counted": counts.counted,
        "trios": counts.trios,
        "client_left": counts.client_left,
        "limited": counts.limited,
        "repeated": counts.repeated,
        "tokens": dict(counts.tokens),
        "blind": result.blind,
        "apis": [_api_view(api) for api in result.apis],
        "measures": [
            {
                "api": measure.api,
                "measure": measure.measure,
                **asdict(measure.outcomes),
                "finding": measure.equivalence.value,
                "against": round(measure.against, 3),
                "in_favour": round(measure.support, 3),
            }
            for measure in result.measures
        ],
    }


def _api_view(result: ApiResult) -> dict[str, Any]:
    counts = result.counts
    unread_legs: dict[str, dict[str, int]] = {}
    for (leg, reason), n in sorted(counts.unread_legs.items()):
        unread_legs.setdefault(leg, {})[reason] = n
    return {
        "api": result.api,
        "share": round(result.share, 4),
        "required": result.required,
        "blind": result.blind,
        "verdict": result.equivalence.value,
        "words": result.message,
        "pairs": counts.pairs,
        "counted": counts.counted,
        "read": counts.read,
        "unread": counts.unread,
        "failed": max(0, counts.counted - counts.read - counts.unread),
        "trios": counts.trios,
        "unread_legs": unread_legs,
    }
