"""Sending items somewhere in batches, without ever holding anybody up.

What finds no room is dropped, the newest first, and counted; what is refused is counted; what fails is tried
again, later and later, and in the end counted too.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Patience", "Sender", "Target"]

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited, in seconds, and how often something is tried."""

    batch: int = 200
    linger: float = 2.0
    timeout: float = 10.0
    first: float = 0.5
    longest: float = 30.0
    tries: int = 5
    queue: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where items go; `body` makes one request of several items."""

    url: str
    headers: Mapping[str, str]
    body: Callable[[list[Any]], Any]


class Sender:
    """A bounded queue and one task that empties it."""

    def __init__(
        self,
        target: Target,
        patience: Patience | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is sent before `run`."""
        self._target = target
        self._patience = patience or Patience()
        self._sleep = sleep
        self._chance = chance
        self._items: deque[Any] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._closed = asyncio.Event()
        self.sent = 0
        self.dropped: Counter[str] = Counter()

    def offer(self, item: Any) -> None:
        """Take an item; never waits."""
        if self._closing:
            self.dropped["stopping"] += 1
        elif len(self._items) >= self._patience.queue:
            self.dropped["queue_full"] += 1
        else:
            self._items.append(item)
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled, or closed and empty."""
        timeout = aiohttp.ClientTimeout(total=self._patience.timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while self._items or not self._closing:
                if not self._items:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if len(self._items) < self._patience.batch and not self._closing:
                    await self._linger()
                count = min(len(self._items), self._patience.batch)
                await self._deliver(session, [self._items.popleft() for _ in range(count)])

    async def _linger(self) -> None:
        """Let a batch fill, unless nothing more is to come."""
        waits = [
            asyncio.ensure_future(self._sleep(self._patience.linger)),
            asyncio.ensure_future(self._closed.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def close(self) -> None:
        """Take nothing more; what waits is still sent, for as long as `run` is let."""
        self._closing = True
        self._closed.set()
        self._wake.set()

    async def _deliver(self, session: aiohttp.ClientSession, items: list[Any]) -> None:
        wait = self._patience.first
        for attempt in range(1, self._patience.tries + 1):
            status, asked = await self._post(session, items)
            if status is not None and status < 300:
                self.sent += len(items)
                return
            if status is not None and status not in _AGAIN:
                self.dropped["refused"] += len(items)
                return
            if attempt < self._patience.tries:
                # Jitter, so that many collectors do not come back at once.
                await self._sleep(max(asked, wait * (0.5 + self._chance() / 2)))
                wait = min(2 * wait, self._patience.longest)
        self.dropped["gave_up"] += len(items)

    async def _post(self, session: aiohttp.ClientSession, items: list[Any]) -> tuple[int | None, float]:
        """Return the status, None where there was no answer, and for how long we are asked to stay away."""
        try:
            async with session.post(
                self._target.url, json=self._target.body(items), headers=self._target.headers
            ) as answer:
                await answer.read()
                asked = answer.headers.get("retry-after", "")
                return answer.status, min(float(asked), self._patience.longest) if asked.isdigit() else 0.0
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, 0.0
