"""Asking backends whether they live: a candidate is given users only while one of its endpoints does.

Whoever asks may be cut off itself. So nobody is called dead unless an endpoint of the stable backend answers
the same asker; without that it is blind, says nothing, and everything stays as it is.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import structlog

from xds_server.health.state import UNCHECKED, EndpointHealth, after_check, summed
from xds_server.rollout import Health

__all__ = ["HealthChecks", "HealthCounts", "Target", "Watched"]

_MOST_AT_ONCE: Final = 64
_MOST_ADDRESSES: Final = 256
_SOON: Final = 0.2
_ENOUGH_BYTES: Final = 4 << 10
_FAILED: Final = 500

log = structlog.get_logger()

Report = Callable[[str, Health], None]
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Endpoints by address, or all addresses behind one name (`dns`)."""

    endpoints: tuple[tuple[str, int], ...]
    dns: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A backend that is asked, how, and the stable backend that tells whether the asker sees anything at all.

    Times in seconds; `threshold` failures in a row are death.
    """

    route: str
    backend: str
    target: Target
    control: Target
    path: str
    interval: float
    timeout: float
    threshold: int


@dataclass(slots=True)
class HealthCounts:
    """Numbers since the start."""

    asked: int = 0
    failed: int = 0
    blind: int = 0


@dataclass(slots=True)
class _BackendState:
    """What is known of one watched backend."""

    watched: Watched
    pulses: dict[tuple[str, int], EndpointHealth] = field(default_factory=dict)
    blind: bool = False


async def _resolve(host: str, port: int) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class HealthChecks:
    """Asks every watched backend again and again; `report(route, health)` is called on the event loop.

    What is known is said after each round, changed or not: whoever listens may be new.
    """

    def __init__(self, report: Report, *, resolve: Resolve = _resolve) -> None:
        """Nothing is asked before `run`."""
        self.counts = HealthCounts()
        self._report = report
        self._resolve = resolve
        self._wanted: dict[tuple[str, str], Watched] = {}
        self._cases: dict[tuple[str, str], _BackendState] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)

    def watch(self, watched: Collection[Watched]) -> None:
        """Replace what is asked; what did not change goes on undisturbed."""
        self._wanted = {(one.route, one.backend): one for one in watched}
        self._changed.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        connector = aiohttp.TCPConnector(limit=_MOST_AT_ONCE, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                self._changed.clear()
                self._adjust(tasks, session)
                await self._changed.wait()

    def _adjust(self, tasks: asyncio.TaskGroup, session: aiohttp.ClientSession) -> None:
        for key in [key for key, case in self._cases.items() if self._wanted.get(key) != case.watched]:
            self._tasks.pop(key).cancel()
            former = self._cases.pop(key)
            if key in self._wanted:  # Endpoints that stayed are as alive as they were.
                self._cases[key] = _BackendState(self._wanted[key], former.pulses)
        for key, watched in self._wanted.items():
            if key not in self._tasks:
                case = self._cases.setdefault(key, _BackendState(watched))
                self._tasks[key] = tasks.create_task(self._follow(case, session))

    async def _follow(self, case: _BackendState, session: aiohttp.ClientSession) -> None:
        while True:
            await self._round(case, session)
            soon = any(pulse.wavering for pulse in case.pulses.values())
            interval = case.watched.interval
            # Jitter, so that a thousand backends are not asked in the same millisecond for ever.
            await asyncio.sleep(min(interval, _SOON) if soon else interval * random.uniform(0.9, 1.1))  # noqa: S311

    async def _round(self, case: _BackendState, session: aiohttp.ClientSession) -> None:
        watched = case.watched
        addresses = await self._addresses(watched.target)
        answers = await asyncio.gather(*(self._ask(session, watched, a) for a in addresses))
        case.pulses = {
            address: after_check(case.pulses.get(address, UNCHECKED), failure, watched.threshold)
            for address, failure in zip(addresses, answers, strict=True)
        }
        found = summed(watched.backend, tuple(case.pulses.values()))
        if found is None:
            return
        if not found.healthy and not await self._sees(session, watched):
            self.counts.blind += 1
            if not case.blind:
                said = {"route": watched.route, "backend": watched.backend}
                log.warning("health_unknown", **said, consequence="the stable backend does not answer either")
            case.blind = True
            return
        case.blind = False
        self._report(watched.route, found)

    async def _sees(self, session: aiohttp.ClientSession, watched: Watched) -> bool:
        """Return whether any endpoint of the stable backend answers."""
        addresses = await self._addresses(watched.control)
        answers = await asyncio.gather(*(self._ask(session, watched, a) for a in addresses[:_MOST_AT_ONCE]))
        return any(failure is None for failure in answers)

    async def _addresses(self, target: Target) -> tuple[tuple[str, int], ...]:
        if not target.dns:
            return target.endpoints[:_MOST_ADDRESSES]
        host, port = target.endpoints[0]
        try:
            found = await self._resolve(host, port)
        except OSError:
            found = ()
        # A name nobody knows is asked as it is: that fails, and says why.
        return tuple((address, port) for address in found[:_MOST_ADDRESSES]) or ((host, port),)

    async def _ask(
        self, session: aiohttp.ClientSession, watched: Watched, address: tuple[str, int]
    ) -> str | None:
        """Ask one endpoint; return what failed, None for a good answer."""
        host, port = address
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        timeout = aiohttp.ClientTimeout(total=watched.timeout)
        async with self._room:
            self.counts.asked += 1
            try:
                async with session.get(
                    f"http://{where}{watched.path}", timeout=timeout, allow_redirects=False
                ) as answer:
                    await answer.content.read(_ENOUGH_BYTES)
                    failure = f"{where} answered {answer.status}" if answer.status >= _FAILED else None
            except TimeoutError:
                failure = f"{where} did not answer within {watched.timeout:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                failure = f"{where}: {_reason(error)}"
        self.counts.failed += failure is not None
        return failure


def _reason(error: Exception) -> str:
    inner = getattr(error, "os_error", error)
    return str(getattr(inner, "strerror", None) or inner or type(error).__name__)
