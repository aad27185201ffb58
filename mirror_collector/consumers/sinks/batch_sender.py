"""Delivery of queued items to an HTTP endpoint in batches.

`BatchSender.enqueue` never waits. An item that does not fit into the queue is dropped, as is a batch that the
endpoint rejects or that failed in every attempt; all of them are counted by reason. Failed attempts are
repeated with exponential backoff.
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

__all__ = ["BatchSender", "DeliveryPolicy", "Target"]

_RETRYABLE_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """Batching, retries and queue size of a sender; times in seconds."""

    batch_size: int = 200
    linger: float = 2.0
    """How long an incomplete batch waits for more items."""

    timeout: float = 10.0
    """Timeout of one request."""

    initial_backoff: float = 0.5
    max_backoff: float = 30.0
    max_attempts: int = 5
    queue_size: int = 10_000
    """Number of items the queue holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An HTTP endpoint; `body` builds the JSON body of one request from a batch of items."""

    url: str
    headers: Mapping[str, str]
    body: Callable[[list[Any]], Any]


class BatchSender:
    """A bounded queue and the task that delivers its items."""

    def __init__(
        self,
        target: Target,
        policy: DeliveryPolicy | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Create a sender; nothing is sent before `run`.

        Args:
            target: the endpoint.
            policy: batching and retries; the defaults if None.
            sleep: replaces `asyncio.sleep` in tests.
            chance: random number in [0, 1) for the jitter of the backoff.
        """
        self._target = target
        self._policy = policy or DeliveryPolicy()
        self._sleep = sleep
        self._chance = chance
        self._items: deque[Any] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._closed = asyncio.Event()
        self.sent = 0
        self.dropped: Counter[str] = Counter()

    def enqueue(self, item: Any) -> None:
        """Queue an item without waiting; drop it if the queue is full or the sender is closed."""
        if self._closing:
            self.dropped["stopping"] += 1
        elif len(self._items) >= self._policy.queue_size:
            self.dropped["queue_full"] += 1
        else:
            self._items.append(item)
            self._wake.set()

    async def run(self) -> None:
        """Deliver queued items until canceled, or until the sender is closed and its queue is empty."""
        timeout = aiohttp.ClientTimeout(total=self._policy.timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while self._items or not self._closing:
                if not self._items:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if len(self._items) < self._policy.batch_size and not self._closing:
                    await self._linger()
                count = min(len(self._items), self._policy.batch_size)
                await self._deliver(session, [self._items.popleft() for _ in range(count)])

    async def _linger(self) -> None:
        """Wait for more items of the batch; return early when the sender is closed."""
        waits = [
            asyncio.ensure_future(self._sleep(self._policy.linger)),
            asyncio.ensure_future(self._closed.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def close(self) -> None:
        """Accept no more items; `run` still delivers the queued ones and then returns."""
        self._closing = True
        self._closed.set()
        self._wake.set()

    async def _deliver(self, session: aiohttp.ClientSession, items: list[Any]) -> None:
        backoff = self._policy.initial_backoff
        for attempt in range(1, self._policy.max_attempts + 1):
            status, retry_after = await self._post(session, items)
            if status is not None and status < 300:
                self.sent += len(items)
                return
            if status is not None and status not in _RETRYABLE_STATUS:
                self.dropped["refused"] += len(items)
                return
            if attempt < self._policy.max_attempts:
                # The jitter keeps many collectors from retrying at the same moment.
                await self._sleep(max(retry_after, backoff * (0.5 + self._chance() / 2)))
                backoff = min(2 * backoff, self._policy.max_backoff)
        self.dropped["gave_up"] += len(items)

    async def _post(self, session: aiohttp.ClientSession, items: list[Any]) -> tuple[int | None, float]:
        """Send one request; return its status (None without a response) and the seconds of Retry-After."""
        try:
            async with session.post(
                self._target.url, json=self._target.body(items), headers=self._target.headers
            ) as response:
                await response.read()
                header = response.headers.get("retry-after", "")
                retry_after = min(float(header), self._policy.max_backoff) if header.isdigit() else 0.0
                return response.status, retry_after
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, 0.0
