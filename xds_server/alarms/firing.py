"""Which alerts are firing already: senders repeat an alert while it fires."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xds_server.alarms.payload import Alert

__all__ = ["FiringAlerts"]

_MAX_ALERTS: Final = 10_000


@dataclass(slots=True)
class FiringAlerts:
    """The firing alerts, oldest first; above the limit the oldest are dropped and count as new again."""

    _firing: dict[tuple[str, str], None] = field(default_factory=dict)

    def is_new(self, alert: Alert) -> bool:
        """Record an alert, and return whether it starts to fire; a resolved alert can start again."""
        key = alert.source, alert.identity
        if not alert.firing:
            self._firing.pop(key, None)
            return False
        if key in self._firing:
            return False
        if len(self._firing) >= _MAX_ALERTS:
            del self._firing[next(iter(self._firing))]
        self._firing[key] = None
        return True
