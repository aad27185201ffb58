"""Privacy policies: how much of each message is stored, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from mirror_collector.exchange.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MessageStorage", "PrivacyPolicy", "RoutePrivacyPolicy"]


class MessageStorage(Enum):
    """How much of the messages is stored."""

    NONE = "none"
    """Measurements only."""

    HASHES = "hashes"
    """Measurements, and keyed hashes that show whether two messages are equal."""

    BODIES = "bodies"
    """The redacted messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePrivacyPolicy:
    """The policy of one route; `retention` in seconds, None for the retention of the store."""

    storage: MessageStorage = MessageStorage.BODIES
    redaction: Redaction = field(default_factory=Redaction)
    retention: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPolicy:
    """The policies of single routes, and the default policy of all others."""

    default: RoutePrivacyPolicy = field(default_factory=RoutePrivacyPolicy)
    routes: Mapping[str, RoutePrivacyPolicy] = field(default_factory=dict)

    def for_route(self, route: str) -> RoutePrivacyPolicy:
        """Return the policy of a route."""
        return self.routes.get(route, self.default)
