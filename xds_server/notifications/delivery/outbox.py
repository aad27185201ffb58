"""Each target is told of every event it wants, in order, at least once, and waits for nobody but itself.

There is no queue in memory: the store's history is the queue, and a mark per target says up to which line it
was told. So nothing is lost by a crash, and a target that hangs or is away keeps nobody waiting and holds
nothing but the message it is sent. Marks are kept at most a second late: what was told in the second before a
crash is told again, with the same id.
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

from xds_server.notifications.delivery.http import post, session
from xds_server.notifications.messages import Event, render
from xds_server.spec import labels_of
from xds_server.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    import aiohttp

    from xds_server.notifications.messages import Notifications, Target
    from xds_server.store import Mark, StoredLine

__all__ = ["Counts", "History", "Outbox", "RetryPolicy"]

_BATCH: Final = 50
_KEEP_SECONDS: Final = 1.0

log = structlog.get_logger()


class History(Protocol):
    """What is asked of a store."""

    def lines(self, after: Mark, limit: int) -> tuple[StoredLine, ...]:
        """Return the lines of all routes' histories that follow another, oldest first."""

    def marks(self, targets: Collection[str]) -> dict[str, Mark]:
        """Return up to which line each target was told."""

    def keep_marks(self, marks: Mapping[str, Mark]) -> None:
        """Keep up to which line targets were told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long an answer is waited for, how long between tries, and how long for a word of news, in seconds.

    History is looked at after that as well: somebody else may write to the store too.
    """

    timeout: float = 10.0
    first: float = 1.0
    longest: float = 120.0
    look: float = 5.0


@dataclass(slots=True)
class Counts:
    """What became of a target's messages since the start; `since` is when the one it waits for happened."""

    results: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    since: float | None = None


class Outbox:
    """One courier per target, and the marks they leave."""

    def __init__(
        self,
        history: History,
        notifications: Notifications,
        patience: RetryPolicy | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is read or sent before `run`."""
        self._history = history
        self._patience = patience or RetryPolicy()
        self._public_url = notifications.public_url
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._targets = {target.name: target for target in notifications.targets}
        self._news = {name: asyncio.Event() for name in self._targets}
        self._marks: dict[str, Mark] = {}
        self._kept: dict[str, Mark] = {}
        self.counts = {name: Counts() for name in self._targets}

    def wake(self) -> None:
        """Hear that history went on; never waits, never fails."""
        for news in self._news.values():
            news.set()

    async def begin(self) -> None:
        """Find out who was told of what; what happens from now on is told also to targets that are new.

        Raises:
            StoreError: The store cannot be used.
        """
        if not self._targets:
            return
        self._marks = await asyncio.to_thread(self._history.marks, list(self._targets))
        self._kept = dict(self._marks)

    async def run(self) -> None:
        """Tell until cancelled."""
        if not self._marks:
            await self.begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                for target in self._targets.values():
                    tasks.create_task(self._carry(target))
                tasks.create_task(self._keep())
        finally:
            await self._keep_once()

    async def _carry(self, target: Target) -> None:
        async with session() as through:
            while True:
                self._news[target.name].clear()
                events = await self._next(target.name)
                for event in events:
                    if target.wants(event):
                        await self._tell(through, target, event)
                    self._marks[target.name] = event.seq, event.place
                if not events:
                    await self._wait(target.name)

    async def _next(self, name: str) -> list[Event]:
        try:
            return await asyncio.to_thread(self._read, self._marks[name])
        except StoreError as error:
            log.warning("notifications_wait", target=name, reason=str(error))
            return []

    def _read(self, after: Mark) -> list[Event]:
        return [_event(line) for line in self._history.lines(after, _BATCH)]

    async def _wait(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._patience.look):
                await self._news[name].wait()
        except TimeoutError:
            return

    async def _tell(self, through: aiohttp.ClientSession, target: Target, event: Event) -> None:
        counts = self.counts[target.name]
        message = render(target, event, self._public_url)
        said = {"target": target.name, "route": event.route, "kind": event.kind, "id": event.id}
        if message.fault:
            log.warning("notification_template_failed", **said, reason=message.fault)
        wait, reason = self._patience.first, "it waited for others"
        counts.since = event.at
        while (left := event.at + target.max_age - self._clock()) > 0:
            answer = await post(
                through, target, message, now=self._clock(), within=min(left, self._patience.timeout)
            )
            if answer.delivered or not answer.again:
                counts.since = None
                counts.results["delivered" if answer.delivered else "refused"] += 1
                if not answer.delivered:
                    log.warning("notification_refused", **said, status=answer.status, reason=answer.words)
                return
            reason = answer.words if answer.status is None else f"{answer.status} {answer.words}".strip()
            if wait == self._patience.first:
                log.warning("notification_delayed", **said, reason=reason)
            counts.retries += 1
            # Jitter, so that what failed together does not come back together.
            pause = max(answer.retry_after, wait * (0.5 + self._chance() / 2))
            await self._sleep(min(pause, max(0.0, event.at + target.max_age - self._clock())))
            wait = min(2 * wait, self._patience.longest)
        counts.since = None
        counts.results["too_old"] += 1
        log.warning("notification_too_old", **said, reason=reason)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            await self._keep_once()

    async def _keep_once(self) -> None:
        marks = {name: mark for name, mark in self._marks.items() if self._kept.get(name) != mark}
        if not marks:
            return
        try:
            await asyncio.to_thread(self._history.keep_marks, marks)
        except StoreError as error:
            log.warning("marks_not_kept", reason=str(error), consequence="a restart tells some of it again")
        else:
            self._kept |= marks


def _event(line: StoredLine) -> Event:
    event = line.event
    return Event(
        seq=event.seq,
        place=line.place,
        at=event.at,
        route=line.route,
        kind=event.what,
        actor=event.actor,
        message=event.message,
        labels=_labels(line.spec),
        phase=event.phase,
        generation=event.generation,
        revision=event.revision,
        weights={variant: share / 100 for variant, share in event.weights},
    )


@lru_cache(maxsize=256)
def _labels(spec: str) -> Mapping[str, str]:
    return labels_of(spec)
