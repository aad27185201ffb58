"""Prometheus, asked now and then: the queries of policies, and counts where proxies tell them nobody else.

Nothing waits for it, nothing fails with it: without an answer there is none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import structlog

from xds_server.analysis.counts.scraped import QUERY, Scraped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from xds_server.analysis.counts import Counts, Leg

__all__ = ["Asked", "Prometheus", "QueryResults", "number_of", "samples_of"]

_EVERY: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query of a policy; asked anew every `interval` seconds."""

    route: str
    name: str
    query: str
    interval: float


class QueryResults:
    """The newest results of queries by route and name; None for a query that failed."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], float | None] = {}

    def results(self, route: str) -> dict[str, float | None]:
        """Return the newest results of a route's queries by name."""
        return {name: value for (of, name), value in self._values.items() if of == route}

    def keep_only(self, wanted: Collection[tuple[str, str]]) -> None:
        """Drop the results of queries that no policy has any more."""
        self._values = {key: value for key, value in self._values.items() if key in wanted}

    def put(self, key: tuple[str, str], value: float | None) -> None:
        """Replace the result of one query."""
        self._values[key] = value


class Prometheus:
    """Polls a Prometheus server: the queries of policies, and proxies' counters where configured."""

    def __init__(
        self,
        url: str,
        asked: Callable[[], Collection[Asked]],
        results: QueryResults,
        *,
        on_counts: Callable[[Mapping[Leg, Counts]], None] | None = None,
    ) -> None:
        """`asked` tells what is wanted; with `on_counts` the proxies' own series are read as well."""
        self._url = url.rstrip("/")
        self._asked = asked
        self._on_counts = on_counts
        self._scraped = Scraped()
        self._results = results
        self._next: dict[tuple[str, str], float] = {}
        self._reachable = True

    async def run(self) -> None:
        """Ask until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self._round(session, asyncio.get_running_loop().time())
                await asyncio.sleep(_EVERY)

    async def _round(self, session: aiohttp.ClientSession, now: float) -> None:
        wanted = {(asked.route, asked.name): asked for asked in self._asked()}
        self._results.keep_only(wanted)
        for key, asked in wanted.items():
            if now >= self._next.get(key, 0.0):
                self._next[key] = now + asked.interval
                found = await self._query(session, asked.query, route=asked.route, metric=asked.name)
                self._results.put(key, None if found is None else number_of(found))
        if self._on_counts is not None:
            found = await self._query(session, QUERY)
            if found is not None:
                self._on_counts(self._scraped.look(samples_of(found)))

    async def _query(self, session: aiohttp.ClientSession, query: str, **of: str) -> Any:
        try:
            async with session.get(f"{self._url}/api/v1/query", params={"query": query}) as answer:
                document = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if self._reachable:
                reason = str(error) or type(error).__name__
                log.warning("prometheus_unreachable", url=self._url, reason=reason)
            self._reachable = False
            return None
        self._reachable = True
        if not isinstance(document, dict) or document.get("status") != "success":
            log.warning("query_refused", **of, query=query, reason=str(document)[:500])
            return None
        return document.get("data")


def number_of(data: Any) -> float | None:
    """Return the one number of an answer; None where there is none, or more than one."""
    values = [value for _, value in samples_of(data)]
    return values[0] if len(values) == 1 and isfinite(values[0]) else None


def samples_of(data: Any) -> Iterator[tuple[dict[str, str], float]]:
    """Yield the samples of an answer with their labels."""
    match data:
        case {"resultType": "scalar", "result": [_, value]}:
            yield {}, float(value)
        case {"resultType": "vector", "result": [*series]}:
            for one in series:
                yield dict(one["metric"]), float(one["value"][1])
        case _:
            return
