"""Export spans to an OpenTelemetry collector in batches; a full queue drops new spans."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from xds_server import __version__
from xds_server.notifications.delivery import client_session, post
from xds_server.notifications.messages import Format, Message, Secret, Target
from xds_server.retry import RetryPolicy
from xds_server.traces.model import export_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from xds_server.traces.model import Span

__all__ = ["SpanExporter"]

_QUEUE_SIZE: Final = 4_096
_BATCH: Final = 256
_LINGER_SECONDS: Final = 1.0
_TIMEOUT: Final = 10.0
_ATTEMPTS: Final = 5
_RETRY: Final = RetryPolicy(first_delay=1.0, longest_delay=8.0, jitter=0.5)
_MAX_RETRY_AFTER: Final = 60.0

log = structlog.get_logger()


class SpanExporter:
    """A bounded queue and one task that sends its spans; a full queue drops the newest span."""

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        """Create an exporter that sends nothing before `run`; a `url` without path gets `/v1/traces`."""
        path = "" if urlsplit(url).path.strip("/") else "/v1/traces"
        self._target = Target(name="otlp", format=Format.WEBHOOK, url=Secret(url.rstrip("/") + path))
        self._sleep = sleep
        self._random_number = random_number
        self._queue: deque[Span] = deque()
        self._not_empty = asyncio.Event()
        self._failing = False
        self.results: Counter[str] = Counter()

    def add(self, span: Span) -> None:
        """Add a span to the queue; never blocks."""
        if len(self._queue) >= _QUEUE_SIZE:
            self.results["queue_full"] += 1
        else:
            self._queue.append(span)
            self._not_empty.set()

    async def run(self) -> None:
        """Send spans until canceled."""
        async with client_session() as session:
            while True:
                self._not_empty.clear()
                if not self._queue:
                    await self._not_empty.wait()
                await self._sleep(_LINGER_SECONDS)
                batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                self.results[await self._send(session, batch)] += len(batch)

    async def _send(self, session: aiohttp.ClientSession, batch: list[Span]) -> str:
        """Send a batch, and return its result for the metric."""
        body = json.dumps(export_request(batch, __version__)).encode()
        message = Message(body=body, headers={"Content-Type": "application/json"})
        for attempt in range(_ATTEMPTS):
            result = await post(session, self._target, message, now=time.time(), timeout_seconds=_TIMEOUT)
            if result.delivered:
                self._failing = False
                return "delivered"
            if not self._failing:
                log.warning("span_export_failed", status=result.status, reason=result.reason)
                self._failing = True
            if not result.retryable:
                return "refused"
            if attempt < _ATTEMPTS - 1:
                delay = _RETRY.delay(attempt, self._random_number())
                await self._sleep(max(min(result.retry_after, _MAX_RETRY_AFTER), delay))
        return "gave_up"
