"""What the collector has found, fetched now and then; nothing waits for it, nothing fails with it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
import structlog

__all__ = ["CollectorSource"]

_EVERY: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)

log = structlog.get_logger()


class CollectorSource:
    """The latest summary per route; `url` is the base URL of the collector's HTTP API."""

    def __init__(self, url: str) -> None:
        """Nothing is fetched before `run`."""
        self._url = url.rstrip("/")
        self._latest: dict[str, dict[str, Any]] = {}
        self.reachable = False

    def summary(self, route: str, stable: str, candidate: str | None) -> dict[str, Any] | None:
        """Return what is known of the pairs of these two backends; None before their first pair."""
        found = self._latest.get(route)
        if found is None:
            return None
        for comparison in found.get("comparisons", ()):
            if (comparison.get("primary_variant"), comparison.get("shadow_variant")) == (stable, candidate):
                whole = {key: value for key, value in found.items() if key != "comparisons"}
                return {**whole, **comparison}
        return None

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self._fetch(session)
                await asyncio.sleep(_EVERY)

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(f"{self._url}/v1/summary") as answer:
                answer.raise_for_status()
                document = await answer.json()
            self._latest = {item["route"]: item for item in document["routes"]}
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            if self.reachable:
                log.warning("collector_unreachable", url=self._url, reason=str(error) or type(error).__name__)
            self.reachable = False
        else:
            if not self.reachable:
                log.info("collector_reachable", url=self._url)
            self.reachable = True
