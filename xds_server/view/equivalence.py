"""The verdict on how alike answers are, as an operator sees it (pure)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xds_server.analysis.verdicts import EquivalenceResult

__all__ = ["equivalence_view"]


def equivalence_view(found: EquivalenceResult | None) -> dict[str, Any] | None:
    """Return the verdict and the numbers behind it as JSON values; None where nothing was counted."""
    if found is None:
        return None
    counts = found.counts
    return {
        "verdict": found.likeness.value,
        "words": found.words,
        "pairs": counts.pairs,
        "counted": counts.counted,
        "trios": counts.trios,
        "client_left": counts.client_left,
        "limited": counts.limited,
        "repeated": counts.repeated,
        "tokens": dict(counts.tokens),
        "measures": [
            {
                "measure": one.measure,
                **asdict(one.signs),
                "finding": one.likeness.value,
                "against": round(one.against, 3),
                "in_favour": round(one.in_favour, 3),
            }
            for one in found.opinions
        ],
    }
