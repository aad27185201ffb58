"""What happened since the reconciler's last pass: groups whose convergence changed, and health reports."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.rollout import Health

__all__ = ["ReconcileInbox"]


class ReconcileInbox:
    """Collects reports and wakes the reconciler. Reports merge: only the newest of each kind is kept."""

    def __init__(self) -> None:
        self._changed_groups: set[str] = set()
        self._health: dict[tuple[str, str], Health] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Start the next pass now."""
        self._wake.set()

    def group_changed(self, group: str) -> None:
        """Report that the convergence of a group changed."""
        self._changed_groups.add(group)
        self._wake.set()

    def health_reported(self, route: str, health: Health) -> None:
        """Report how many endpoints of a backend are healthy; replaces the backend's previous report."""
        self._health[route, health.backend] = health
        self._wake.set()

    def take_groups(self) -> set[str]:
        """Return the groups that changed since the last call, and forget them."""
        self._wake.clear()
        groups, self._changed_groups = self._changed_groups, set()
        return groups

    def put_back(self, groups: Iterable[str]) -> None:
        """Keep groups for the next pass, because this pass could not store the changes due to them."""
        self._changed_groups.update(groups)

    def pending_health(self) -> list[tuple[str, Health]]:
        """Return the health reports that are not handled yet, each with the name of its route."""
        return [(route, health) for (route, _), health in self._health.items()]

    def health_handled(self, route: str, health: Health) -> None:
        """Drop a health report, unless a newer one replaced it."""
        if self._health.get((route, health.backend)) is health:
            del self._health[route, health.backend]

    async def wait(self, seconds: float) -> None:
        """Wait until something is reported, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
