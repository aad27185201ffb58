"""Poll the summaries of a shadow collector; while it is unreachable, the latest summaries stay in use."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

import aiohttp
import structlog

from xds_server.analysis.experiments import Exposures
from xds_server.analysis.verdicts import PairSummary

__all__ = ["CollectorSource"]

_POLL_SECONDS: Final = 1.0
_RATE_WINDOW_SECONDS: Final = 20.0
_MIN_RATE_SECONDS: Final = 5.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)

log = structlog.get_logger()


class CollectorSource:
    """The latest summary per route; `url` is the base URL of the collector's HTTP API.

    `token` is the collector's bearer token if it requires one; the viewer role suffices.
    """

    def __init__(self, url: str, token: str = "") -> None:
        """Create a source that fetches nothing before `run`."""
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._latest: dict[str, dict[str, Any]] = {}
        self._exposures: dict[tuple[str, str], Exposures] = {}
        self._tokens_by_time: dict[str, deque[tuple[float, float]]] = {}
        self.reachable = False
        self._failure_logged = False

    def summary(self, route: str, stable: str, candidate: str | None) -> PairSummary | None:
        """Return the summary of the pairs of these two backends; None before their first pair."""
        found = self._latest.get(route)
        if found is None:
            return None
        for comparison in found.get("comparisons", ()):
            if (comparison.get("primary_variant"), comparison.get("shadow_variant")) == (stable, candidate):
                whole = {key: value for key, value in found.items() if key != "comparisons"}
                report = {**whole, **comparison, "shadow_tokens_per_second": self._rate(route)}
                return PairSummary.from_json(report)
        return None

    def exposures(self, route: str, experiment: str) -> Exposures | None:
        """Return the exposures of an A/B test; None before the first."""
        return self._exposures.get((route, experiment))

    def _record_tokens(self, now: float) -> None:
        """Record the total tokens of each route's mirrored requests; drop samples before the rate window."""
        self._tokens_by_time = {route: self._tokens_by_time.get(route, deque()) for route in self._latest}
        for route, samples in self._tokens_by_time.items():
            samples.append((now, _shadow_tokens(self._latest[route])))
            while samples[0][0] < now - _RATE_WINDOW_SECONDS:
                samples.popleft()

    def _rate(self, route: str) -> float | None:
        """Return the tokens per second of mirrored requests; None before 5 s of samples."""
        samples = self._tokens_by_time.get(route)
        if not samples or samples[-1][0] - samples[0][0] < _MIN_RATE_SECONDS:
            return None
        (since, before), (now, after) = samples[0], samples[-1]
        return max(0.0, after - before) / (now - since)

    async def run(self) -> None:
        """Fetch summaries until canceled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session:
            while True:
                await self._fetch(session)
                await asyncio.sleep(_POLL_SECONDS)

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(f"{self._url}/v1/summary") as response:
                response.raise_for_status()
                document = await response.json()
            self._latest = {item["route"]: item for item in document["routes"]}
            self._record_tokens(time.monotonic())
            async with session.get(f"{self._url}/v1/exposures") as response:
                response.raise_for_status()
                document = await response.json()
            self._exposures = {
                (item["route"], item["experiment"]): Exposures.from_json(item)
                for item in document["experiments"]
            }
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not self._failure_logged:
                log.warning("collector_unreachable", url=self._url, reason=_reason(error))
            self.reachable, self._failure_logged = False, True
        else:
            if not self.reachable:
                log.info("collector_connected", url=self._url)
            self.reachable, self._failure_logged = True, False


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientError | TimeoutError):
        return str(error) or "no response in time"
    return "the response is not that of a collector"


def _shadow_tokens(summary: dict[str, Any]) -> float:
    """Return the total tokens of a route's compared shadow responses and noise baseline responses."""
    total = 0.0
    for comparison in summary.get("comparisons", ()):
        tokens = comparison.get("tokens") or {}
        total += float(tokens.get("shadow_mean") or 0.0) * float(tokens.get("of") or 0)
        total += float(tokens.get("noise_total") or 0)
    return total
