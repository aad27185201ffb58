"""Poll Prometheus: the queries of analysis metrics, and optionally the traffic counters of proxies.

The control plane also runs without a reachable Prometheus: while a query fails, its metric has no value.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import structlog

from xds_server.analysis.counts.cumulative_series import QUERY, CumulativeSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from xds_server.analysis.counts import Counts, Leg

__all__ = ["MetricQuery", "Prometheus", "QueryResults", "number_of", "samples_of"]

_POLL_SECONDS: Final = 1.0
_FRESH_SECONDS: Final = 60.0
"""Age at which a result is dropped; if two intervals of its query are longer, they apply instead."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """The PromQL query of an analysis metric, evaluated every `interval` seconds."""

    route: str
    name: str
    query: str
    interval: float


class QueryResults:
    """The latest result of each query: a number, or None if the last evaluation failed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without results; `clock` returns seconds."""
        self._clock = clock
        self._values: dict[tuple[str, str], tuple[float | None, float]] = {}

    def results(self, route: str) -> dict[str, float | None]:
        """Return the latest results of a route's queries, by metric name, except those that are too old."""
        now = self._clock()
        return {
            name: value
            for (of_route, name), (value, until) in self._values.items()
            if of_route == route and now <= until
        }

    def keep_only(self, keys: Collection[tuple[str, str]]) -> None:
        """Drop the results of all other queries; a key is a route and a metric name."""
        self._values = {key: value for key, value in self._values.items() if key in keys}

    def put(self, key: tuple[str, str], value: float | None, *, interval: float = 0.0) -> None:
        """Replace the result of one query, which is evaluated every `interval` seconds."""
        self._values[key] = value, self._clock() + max(_FRESH_SECONDS, 2 * interval)


class Prometheus:
    """Evaluate queries on a Prometheus server, and store their results in `QueryResults`."""

    def __init__(
        self,
        url: str,
        queries: Callable[[], Collection[MetricQuery]],
        results: QueryResults,
        *,
        on_counts: Callable[[Mapping[Leg, Counts]], None] | None = None,
    ) -> None:
        """Evaluate what `queries` returns; with `on_counts` also read the traffic counters of proxies."""
        self._url = url.rstrip("/")
        self._queries = queries
        self._on_counts = on_counts
        self._scraped = CumulativeSeries()
        self._results = results
        self._due_at: dict[tuple[str, str], float] = {}
        self._reachable = True

    async def run(self) -> None:
        """Evaluate queries until canceled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self._poll(session, asyncio.get_running_loop().time())
                await asyncio.sleep(_POLL_SECONDS)

    async def _poll(self, session: aiohttp.ClientSession, now: float) -> None:
        queries = {(query.route, query.name): query for query in self._queries()}
        self._results.keep_only(queries)
        for key, query in queries.items():
            if now >= self._due_at.get(key, 0.0):
                self._due_at[key] = now + query.interval
                data = await self._evaluate(session, query.query, route=query.route, metric=query.name)
                self._results.put(key, None if data is None else number_of(data), interval=query.interval)
        if self._on_counts is not None:
            data = await self._evaluate(session, QUERY)
            if data is not None:
                self._on_counts(self._scraped.increments(samples_of(data)))

    async def _evaluate(self, session: aiohttp.ClientSession, query: str, **log_fields: str) -> Any:
        """Return the data of a query's result; None if Prometheus is unreachable or rejects the query."""
        try:
            async with session.get(f"{self._url}/api/v1/query", params={"query": query}) as response:
                document = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if self._reachable:
                invalid = isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError)
                reason = "the response is not JSON" if invalid else str(error) or "no response in time"
                log.warning("prometheus_unreachable", url=self._url, reason=reason)
            self._reachable = False
            return None
        self._reachable = True
        if not isinstance(document, dict) or document.get("status") != "success":
            log.warning("prometheus_query_failed", **log_fields, query=query, reason=str(document)[:500])
            return None
        return document.get("data")


def number_of(data: Any) -> float | None:
    """Return the value of a result with exactly one finite sample; None for other results."""
    values = [value for _, value in samples_of(data)]
    return values[0] if len(values) == 1 and isfinite(values[0]) else None


def samples_of(data: Any) -> Iterator[tuple[dict[str, str], float]]:
    """Yield the labels and values of a result's samples."""
    match data:
        case {"resultType": "scalar", "result": [_, value]}:
            yield {}, float(value)
        case {"resultType": "vector", "result": [*series]}:
            for sample in series:
                yield dict(sample["metric"]), float(sample["value"][1])
        case _:
            return
