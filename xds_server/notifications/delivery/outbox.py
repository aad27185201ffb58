"""Deliver route events to notification targets, in order and at least once.

This is a transactional outbox. The history in the store is the queue, and a cursor per target is the position
of the last event that was processed for the target: one that the target accepted or rejected, that became too
old, or that the target is not configured to receive. A crash therefore loses no event. A slow or unreachable
target delays no other target and needs memory only for one batch of events. Cursors are saved once a second:
after a crash, events delivered in the last second are delivered again with the same id.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from xds_server.notifications.delivery.http import client_session, post
from xds_server.notifications.messages import Event, render
from xds_server.retry import RetryPolicy
from xds_server.spec import labels_of
from xds_server.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    import aiohttp

    from xds_server.notifications.messages import Notifications, Target
    from xds_server.store import Cursor, StoredRouteEvent

__all__ = ["DeliveryCounts", "DeliverySettings", "History", "Outbox"]

_RETRY: Final = RetryPolicy(first_delay=1.0, longest_delay=120.0, jitter=0.5)
_BATCH: Final = 50
_SAVE_SECONDS: Final = 1.0

log = structlog.get_logger()


class History(Protocol):
    """The methods of the store that the outbox uses."""

    def events_after(self, cursor: Cursor, limit: int) -> tuple[StoredRouteEvent, ...]:
        """Return the next records of all routes' histories after a cursor, oldest first."""

    def load_cursors(self, targets: Collection[str]) -> dict[str, Cursor]:
        """Return the cursor of each target."""

    def save_cursors(self, cursors: Mapping[str, Cursor]) -> None:
        """Write the cursors of targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """The timeout of an attempt, the delays between attempts, and the poll interval, all in seconds.

    The history is polled because another process may write to the store without calling `Outbox.wake`.
    """

    timeout: float = 10.0
    retry: RetryPolicy = _RETRY
    poll_interval: float = 5.0


@dataclass(slots=True)
class DeliveryCounts:
    """Deliveries to a target since the process started, by result.

    `pending_since` is the time of the event that is being delivered, None if there is none.
    """

    results: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    pending_since: float | None = None


class Outbox:
    """Run one delivery task per target, and save the targets' cursors."""

    def __init__(
        self,
        history: History,
        notifications: Notifications,
        settings: DeliverySettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        """Create an outbox; `load_cursors` reads the cursors, and `run` sends the events."""
        self._history = history
        self._settings = settings or DeliverySettings()
        self._public_url = notifications.public_url
        self._clock = clock
        self._sleep = sleep
        self._random_number = random_number
        self._targets = {target.name: target for target in notifications.targets}
        self._new_events = {name: asyncio.Event() for name in self._targets}
        self._cursors: dict[str, Cursor] = {}
        self._saved: dict[str, Cursor] = {}
        self.counts = {name: DeliveryCounts() for name in self._targets}

    def wake(self) -> None:
        """Signal that the history has new events; never blocks and never raises."""
        for new_events in self._new_events.values():
            new_events.set()

    async def load_cursors(self) -> None:
        """Read the cursors; a new target receives the events from this call on.

        Raises:
            StoreError: The store cannot be used.
        """
        if not self._targets:
            return
        self._cursors = await asyncio.to_thread(self._history.load_cursors, list(self._targets))
        self._saved = dict(self._cursors)

    async def run(self) -> None:
        """Deliver events until canceled."""
        if not self._cursors:
            await self.load_cursors()
        try:
            async with asyncio.TaskGroup() as tasks:
                for target in self._targets.values():
                    tasks.create_task(self._deliver_all(target))
                tasks.create_task(self._save_periodically())
        finally:
            await self._save_cursors()

    async def _deliver_all(self, target: Target) -> None:
        async with client_session() as session:
            while True:
                self._new_events[target.name].clear()
                events = await self._next_events(target.name)
                for event in events:
                    if target.matches(event):
                        await self._deliver(session, target, event)
                    self._cursors[target.name] = event.seq, event.place
                if not events:
                    await self._wait_for_events(target.name)

    async def _next_events(self, name: str) -> list[Event]:
        try:
            return await asyncio.to_thread(self._read, self._cursors[name])
        except StoreError as error:
            log.warning("notification_history_unreadable", target=name, reason=str(error))
            return []

    def _read(self, cursor: Cursor) -> list[Event]:
        return [_event(stored) for stored in self._history.events_after(cursor, _BATCH)]

    async def _wait_for_events(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._settings.poll_interval):
                await self._new_events[name].wait()
        except TimeoutError:
            return

    async def _deliver(self, session: aiohttp.ClientSession, target: Target, event: Event) -> None:
        """Send an event until the target accepts or rejects it, or the event is too old."""
        counts = self.counts[target.name]
        message = render(target, event, self._public_url)
        fields = {"target": target.name, "route": event.route, "kind": event.kind, "id": event.id}
        if message.template_error:
            log.warning("notification_template_failed", **fields, reason=message.template_error)
        attempt, reason = 0, "the event was older than maxAge before the first attempt"
        counts.pending_since = event.at
        while (left := event.at + target.max_age - self._clock()) > 0:
            now, timeout = self._clock(), min(left, self._settings.timeout)
            result = await post(session, target, message, now=now, timeout_seconds=timeout)
            if result.delivered or not result.retryable:
                counts.pending_since = None
                counts.results["delivered" if result.delivered else "refused"] += 1
                if not result.delivered:
                    log.warning("notification_rejected", **fields, status=result.status, reason=result.reason)
                return
            reason = result.reason if result.status is None else f"{result.status} {result.reason}".strip()
            if attempt == 0:
                log.warning("notification_delayed", **fields, reason=reason)
            counts.retries += 1
            delay = self._settings.retry.delay(attempt, self._random_number())
            pause = max(result.retry_after, delay)
            await self._sleep(min(pause, max(0.0, event.at + target.max_age - self._clock())))
            attempt += 1
        counts.pending_since = None
        counts.results["too_old"] += 1
        log.warning("notification_expired", **fields, reason=reason)

    async def _save_periodically(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self._save_cursors()

    async def _save_cursors(self) -> None:
        changed = {name: cursor for name, cursor in self._cursors.items() if self._saved.get(name) != cursor}
        if not changed:
            return
        try:
            await asyncio.to_thread(self._history.save_cursors, changed)
        except StoreError as error:
            log.warning(
                "notification_cursors_not_saved",
                reason=str(error),
                consequence="after a restart some events are delivered again",
            )
        else:
            self._saved |= changed


def _event(stored: StoredRouteEvent) -> Event:
    event = stored.event
    return Event(
        seq=event.seq,
        place=stored.place,
        at=event.at,
        route=stored.route,
        kind=event.what,
        actor=event.actor,
        message=event.message,
        labels=_labels(stored.spec),
        phase=event.phase,
        generation=event.generation,
        revision=event.revision,
        weights={variant: share / 100 for variant, share in event.weights},
    )


@lru_cache(maxsize=256)
def _labels(spec: str) -> Mapping[str, str]:
    return labels_of(spec)
