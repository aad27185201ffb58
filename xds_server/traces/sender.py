"""Spans to an OpenTelemetry collector, in batches; nobody waits for it, and what finds no room is dropped."""

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
from xds_server.notifications.delivery import post, session
from xds_server.notifications.messages import Format, Message, Secret, Target
from xds_server.traces.model import export_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from xds_server.traces.model import Span

__all__ = ["Sender"]

_MOST: Final = 4_096
_BATCH: Final = 256
_LINGER_SECONDS: Final = 1.0
_TIMEOUT: Final = 10.0
_TRIES: Final = 5
_FIRST: Final = 1.0

log = structlog.get_logger()


class Sender:
    """A bounded queue and one task that empties it; the newest is dropped where there is no room."""

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Without a path in `url` it is the standard one. Nothing is sent before `run`."""
        path = "" if urlsplit(url).path.strip("/") else "/v1/traces"
        self._target = Target(name="otlp", format=Format.WEBHOOK, url=Secret(url.rstrip("/") + path))
        self._sleep = sleep
        self._chance = chance
        self._spans: deque[Span] = deque()
        self._news = asyncio.Event()
        self._failing = False
        self.results: Counter[str] = Counter()

    def take(self, span: Span) -> None:
        """Take a span; never waits."""
        if len(self._spans) >= _MOST:
            self.results["queue_full"] += 1
        else:
            self._spans.append(span)
            self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with session() as through:
            while True:
                self._news.clear()
                if not self._spans:
                    await self._news.wait()
                await self._sleep(_LINGER_SECONDS)
                batch = [self._spans.popleft() for _ in range(min(_BATCH, len(self._spans)))]
                self.results[await self._deliver(through, batch)] += len(batch)

    async def _deliver(self, through: aiohttp.ClientSession, batch: list[Span]) -> str:
        body = json.dumps(export_request(batch, __version__)).encode()
        message = Message(body=body, headers={"Content-Type": "application/json"})
        wait = _FIRST
        for attempt in range(1, _TRIES + 1):
            answer = await post(through, self._target, message, now=time.time(), within=_TIMEOUT)
            if answer.delivered:
                self._failing = False
                return "delivered"
            if not self._failing:
                log.warning("spans_not_taken", status=answer.status, reason=answer.words)
                self._failing = True
            if not answer.again:
                return "refused"
            if attempt < _TRIES:
                await self._sleep(max(min(answer.retry_after, 60.0), wait * (0.5 + self._chance() / 2)))
                wait *= 2
        return "gave_up"
