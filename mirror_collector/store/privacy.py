"""What of a message is kept, and in which form; and how it is sealed on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from mirror_collector.exchange.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Keep", "Privacy", "RoutePrivacy"]


class Keep(Enum):
    """How much of the messages is kept."""

    NONE = "none"
    """Figures only."""

    HASHES = "hashes"
    """Figures, and keyed hashes that tell whether two messages were the same."""

    BODIES = "bodies"
    """The messages, redacted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePrivacy:
    """What is kept of the messages of one route; `retention` in seconds, None for that of the store."""

    keep: Keep = Keep.BODIES
    redaction: Redaction = field(default_factory=Redaction)
    retention: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What is kept of the messages of all routes."""

    default: RoutePrivacy = field(default_factory=RoutePrivacy)
    routes: Mapping[str, RoutePrivacy] = field(default_factory=dict)

    def of(self, route: str) -> RoutePrivacy:
        """Return what holds for a route."""
        return self.routes.get(route, self.default)
