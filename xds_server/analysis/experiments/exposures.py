"""The users of an A/B test, as a collector counts them (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Exposures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposures:
    """Users by variant, and the users with an outcome by metric and variant.

    `crossovers` counts users that were exposed to more than one variant.
    """

    users: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    crossovers: int = 0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Exposures:
        """Return the exposures of a collector's report.

        Raises:
            TypeError, ValueError, AttributeError: The report has values of another type than expected.
        """
        return cls(
            users={name: int(count) for name, count in document.get("users", {}).items()},
            outcomes={
                metric: {name: int(count) for name, count in by_variant.items()}
                for metric, by_variant in document.get("outcomes", {}).items()
            },
            crossovers=int(document.get("crossovers", 0)),
        )
