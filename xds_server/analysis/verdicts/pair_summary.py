"""The summary of a shadow's pairs, as the control plane uses it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PairSummary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSummary:
    """What a collector reports about the pairs of two backends.

    `pairs` is the number of compared pairs and `read` the number of those whose answers were both read
    without a failure; each is None if the collector does not report it.
    `shadow_tokens_per_second` is the token rate of mirrored requests, None while it is unknown. `document` is
    the collector's whole report: it is displayed, and nothing is decided by it.
    """

    pairs: int | None
    read: int | None = None
    shadow_tokens_per_second: float | None
    document: Mapping[str, Any]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PairSummary:
        """Return the summary of a report; values of another type than expected count as unknown."""
        pairs, read = document.get("pairs"), document.get("read")
        rate = document.get("shadow_tokens_per_second")
        return cls(
            pairs=pairs if isinstance(pairs, int) else None,
            read=read if isinstance(read, int) else None,
            shadow_tokens_per_second=float(rate) if isinstance(rate, int | float) else None,
            document=document,
        )
