"""What the collector has found, fetched now and then; nothing waits for it, nothing fails with it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

import aiohttp
import structlog

__all__ = ["CollectorSource"]

_EVERY: Final = 1.0
_WINDOW: Final = 20.0
_LEAST: Final = 5.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)

log = structlog.get_logger()


class CollectorSource:
    """The latest summary per route; `url` is the base URL of the collector's HTTP API.

    `token` is what it lets in, where it asks for one; a viewer's is enough.
    """

    def __init__(self, url: str, token: str = "") -> None:
        """Nothing is fetched before `run`."""
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._latest: dict[str, dict[str, Any]] = {}
        self._exposed: dict[tuple[str, str], dict[str, Any]] = {}
        self._spent: dict[str, deque[tuple[float, float]]] = {}
        self.reachable = False

    def summary(self, route: str, stable: str, candidate: str | None) -> dict[str, Any] | None:
        """Return what is known of the pairs of these two backends; None before their first pair."""
        found = self._latest.get(route)
        if found is None:
            return None
        for comparison in found.get("comparisons", ()):
            if (comparison.get("primary_variant"), comparison.get("shadow_variant")) == (stable, candidate):
                whole = {key: value for key, value in found.items() if key != "comparisons"}
                return {**whole, **comparison, "shadow_tokens_per_second": self._rate(route)}
        return None

    def exposed(self, route: str, experiment: str) -> dict[str, Any] | None:
        """Return what is known of the users of an A/B test, None before the first."""
        return self._exposed.get((route, experiment))

    def _note_spent(self, now: float) -> None:
        """Remember what copies have cost so far, for as long as their rate is looked at."""
        self._spent = {route: self._spent.get(route, deque()) for route in self._latest}
        for route, known in self._spent.items():
            known.append((now, _tokens(self._latest[route])))
            while known[0][0] < now - _WINDOW:
                known.popleft()

    def _rate(self, route: str) -> float | None:
        """Return the tokens that copies cost per second lately; None while that is not long enough."""
        known = self._spent.get(route)
        if not known or known[-1][0] - known[0][0] < _LEAST:
            return None
        (since, before), (now, after) = known[0], known[-1]
        return max(0.0, after - before) / (now - since)

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session:
            while True:
                await self._fetch(session)
                await asyncio.sleep(_EVERY)

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(f"{self._url}/v1/summary") as answer:
                answer.raise_for_status()
                document = await answer.json()
            self._latest = {item["route"]: item for item in document["routes"]}
            self._note_spent(time.monotonic())
            async with session.get(f"{self._url}/v1/exposures") as answer:
                answer.raise_for_status()
                document = await answer.json()
            self._exposed = {(item["route"], item["experiment"]): item for item in document["experiments"]}
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            if self.reachable:
                log.warning("collector_unreachable", url=self._url, reason=str(error) or type(error).__name__)
            self.reachable = False
        else:
            if not self.reachable:
                log.info("collector_reachable", url=self._url)
            self.reachable = True


def _tokens(item: dict[str, Any]) -> float:
    """Return the tokens of all answers that copies of a route got, as far as they were compared."""
    total = 0.0
    for comparison in item.get("comparisons", ()):
        tokens = comparison.get("tokens") or {}
        total += float(tokens.get("shadow_mean") or 0.0) * float(tokens.get("of") or 0)
        total += float(tokens.get("noise_total") or 0)
    return total
