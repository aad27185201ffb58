"""Which alerts were heard already: one that goes on firing is told again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xds_server.alarms.payload import Alert

__all__ = ["FiringAlerts"]

_MOST: Final = 10_000


@dataclass(slots=True)
class FiringAlerts:
    """The alerts that fire now, oldest first; of too many the oldest are forgotten, and heard anew."""

    _firing: dict[tuple[str, str], None] = field(default_factory=dict)

    def is_new(self, alert: Alert) -> bool:
        """Return whether an alert begins to fire; one that is resolved may fire again."""
        key = alert.source, alert.identity
        if not alert.firing:
            self._firing.pop(key, None)
            return False
        if key in self._firing:
            return False
        if len(self._firing) >= _MOST:
            del self._firing[next(iter(self._firing))]
        self._firing[key] = None
        return True
