"""Active health checks over HTTP; a candidate gains users only while one of its endpoints is healthy.

The control plane itself may be cut off from the backends. A backend is therefore reported unhealthy only if
an endpoint of the stable backend responds to the same checker. If none does, the check result is discarded
and the health of the backend stays as it was.
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

from xds_server.health.state import UNCHECKED, EndpointHealth, after_check, backend_health
from xds_server.rollout import Health

__all__ = ["BackendCheck", "HealthChecks", "HealthCounts", "Target"]

_MAX_CONCURRENT: Final = 64
_MAX_ADDRESSES: Final = 256
_RETRY_INTERVAL: Final = 0.2
_MAX_BODY_BYTES: Final = 4 << 10
_FIRST_FAILED_STATUS: Final = 500

log = structlog.get_logger()

Report = Callable[[str, Health], None]
Resolve = Callable[[str, int], Awaitable[tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Endpoints by address, or all addresses of one DNS name (`dns`)."""

    endpoints: tuple[tuple[str, int], ...]
    dns: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCheck:
    """The health check of one backend.

    An unhealthy result counts only if `control`, the stable backend, is reachable. Times are in seconds;
    `threshold` failures in a row make an endpoint unhealthy.
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
    """Counters since the start; `discarded` results came while the stable backend was unreachable too."""

    sent: int = 0
    failed: int = 0
    discarded: int = 0


@dataclass(slots=True)
class _BackendState:
    """The health of one checked backend."""

    check: BackendCheck
    endpoints: dict[tuple[str, int], EndpointHealth] = field(default_factory=dict)
    control_unreachable: bool = False


async def _resolve(host: str, port: int) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in addresses))


class HealthChecks:
    """Checks every given backend periodically and calls `report(route, health)` on the event loop.

    The health is reported after each round of checks that decides it, even if it did not change.
    """

    def __init__(self, report: Report, *, resolve: Resolve = _resolve) -> None:
        """Create the checker; no check is sent before `run`."""
        self.counts = HealthCounts()
        self._report = report
        self._resolve = resolve
        self._wanted: dict[tuple[str, str], BackendCheck] = {}
        self._states: dict[tuple[str, str], _BackendState] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    def watch(self, checks: Collection[BackendCheck]) -> None:
        """Replace the checked backends; unchanged checks continue undisturbed."""
        self._wanted = {(check.route, check.backend): check for check in checks}
        self._changed.set()

    async def run(self) -> None:
        """Check until canceled."""
        connector = aiohttp.TCPConnector(limit=_MAX_CONCURRENT, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                self._changed.clear()
                self._adjust(tasks, session)
                await self._changed.wait()

    def _adjust(self, tasks: asyncio.TaskGroup, session: aiohttp.ClientSession) -> None:
        for key in [key for key, state in self._states.items() if self._wanted.get(key) != state.check]:
            self._tasks.pop(key).cancel()
            previous = self._states.pop(key)
            if key in self._wanted:  # Endpoints that remain keep their health.
                self._states[key] = _BackendState(self._wanted[key], previous.endpoints)
        for key, check in self._wanted.items():
            if key not in self._tasks:
                state = self._states.setdefault(key, _BackendState(check))
                self._tasks[key] = tasks.create_task(self._check_forever(state, session))

    async def _check_forever(self, state: _BackendState, session: aiohttp.ClientSession) -> None:
        while True:
            await self._check_backend(state, session)
            soon = any(endpoint.check_soon for endpoint in state.endpoints.values())
            interval = state.check.interval
            # Jitter, so that a thousand backends are not checked in the same millisecond every time.
            jittered = interval * random.uniform(0.9, 1.1)  # noqa: S311
            await asyncio.sleep(min(interval, _RETRY_INTERVAL) if soon else jittered)

    async def _check_backend(self, state: _BackendState, session: aiohttp.ClientSession) -> None:
        check = state.check
        addresses = await self._addresses(check.target)
        results = await asyncio.gather(*(self._probe(session, check, address) for address in addresses))
        state.endpoints = {
            address: after_check(state.endpoints.get(address, UNCHECKED), failure, check.threshold)
            for address, failure in zip(addresses, results, strict=True)
        }
        health = backend_health(check.backend, tuple(state.endpoints.values()))
        if health is None:
            return
        if not health.healthy and not await self._control_reachable(session, check):
            self.counts.discarded += 1
            if not state.control_unreachable:
                log.warning(
                    "health_unknown",
                    route=check.route,
                    backend=check.backend,
                    consequence=(
                        "the health of the backend stays as it was: "
                        "no endpoint of the stable backend answers either"
                    ),
                )
            state.control_unreachable = True
            return
        state.control_unreachable = False
        self._report(check.route, health)

    async def _control_reachable(self, session: aiohttp.ClientSession, check: BackendCheck) -> bool:
        """Return whether any endpoint of the stable backend responds."""
        addresses = await self._addresses(check.control)
        results = await asyncio.gather(
            *(self._probe(session, check, address) for address in addresses[:_MAX_CONCURRENT])
        )
        return any(failure is None for failure in results)

    async def _addresses(self, target: Target) -> tuple[tuple[str, int], ...]:
        if not target.dns:
            return target.endpoints[:_MAX_ADDRESSES]
        host, port = target.endpoints[0]
        try:
            resolved = await self._resolve(host, port)
        except OSError:
            resolved = ()
        # A name that does not resolve is probed as it is, so that the failure gives the reason.
        return tuple((address, port) for address in resolved[:_MAX_ADDRESSES]) or ((host, port),)

    async def _probe(
        self, session: aiohttp.ClientSession, check: BackendCheck, address: tuple[str, int]
    ) -> str | None:
        """Probe one endpoint; return the reason of a failure, None for a success."""
        host, port = address
        endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        timeout = aiohttp.ClientTimeout(total=check.timeout)
        async with self._slots:
            self.counts.sent += 1
            try:
                async with session.get(
                    f"http://{endpoint}{check.path}", timeout=timeout, allow_redirects=False
                ) as response:
                    await response.content.read(_MAX_BODY_BYTES)
                    failed = response.status >= _FIRST_FAILED_STATUS
                    failure = f"{endpoint} answered with status {response.status}" if failed else None
            except TimeoutError:
                failure = f"{endpoint} did not answer within {check.timeout:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                failure = f"{endpoint}: {_reason(error)}"
        self.counts.failed += failure is not None
        return failure


def _reason(error: Exception) -> str:
    inner = getattr(error, "os_error", error)
    return str(getattr(inner, "strerror", None) or inner or type(error).__name__)
