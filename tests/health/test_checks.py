"""Health checks of real servers on loopback that stop, fail, hang and recover."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from demo.processes import free_port
from xds_server.health import BackendCheck, HealthChecks, Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from xds_server.rollout import Health


class Server:
    """Answers /health with `status`; None hangs until the server ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status: int | None = 200
        self.requests = 0
        self._over = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        self._over.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        self.requests += 1
        if self.status is None:
            await self._over.wait()
        return web.Response(status=self.status or 200, body=b"x" * 1_000_000)


class Reports:
    """The newest health of each backend."""

    def __init__(self) -> None:
        self.newest: dict[str, Health] = {}

    def __call__(self, route: str, health: Health) -> None:
        assert route == "chat"
        self.newest[health.backend] = health


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(checks: HealthChecks) -> AsyncIterator[None]:
    task = asyncio.create_task(checks.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[Server]]:
    found = [Server(free_port()) for _ in range(count)]
    for server in found:
        await server.start()
    try:
        yield found
    finally:
        for server in found:
            await server.stop()


def check_of(control: Server, *endpoints: Server, backend: str = "v2") -> BackendCheck:
    def target(*ports: int) -> Target:
        return Target(endpoints=tuple(("127.0.0.1", port) for port in ports), dns=False)

    return BackendCheck(
        route="chat",
        backend=backend,
        target=target(*(server.port for server in endpoints)),
        control=target(control.port),
        path="/health",
        interval=0.02,
        timeout=0.2,
        threshold=2,
    )


async def test_endpoints_become_unhealthy_and_healthy_again() -> None:
    reports = Reports()
    checks = HealthChecks(reports)
    async with servers(3) as (control, one, two), running(checks):
        checks.watch([check_of(control, one, two)])
        await until(lambda: "v2" in reports.newest and reports.newest["v2"].healthy == 2)
        await one.stop()
        await until(lambda: reports.newest["v2"].healthy == 1)
        assert f"127.0.0.1:{one.port}" in reports.newest["v2"].detail
        two.status = 503
        await until(lambda: reports.newest["v2"].healthy == 0)
        assert "answered with status 503" in reports.newest["v2"].detail
        two.status = 404
        await until(lambda: reports.newest["v2"].healthy == 1)
        two.status = None
        await until(lambda: reports.newest["v2"].healthy == 0)
        assert "did not answer within 0.2 s" in reports.newest["v2"].detail


async def test_results_are_discarded_while_the_stable_backend_is_unreachable() -> None:
    reports = Reports()
    checks = HealthChecks(reports)
    async with servers(2) as (control, one), running(checks):
        checks.watch([check_of(control, one)])
        await until(lambda: "v2" in reports.newest and reports.newest["v2"].healthy == 1)
        control.status = 500
        await one.stop()
        await until(lambda: checks.counts.discarded >= 3)
        assert reports.newest["v2"].healthy == 1
        control.status = 200
        await until(lambda: reports.newest["v2"].healthy == 0)


async def test_changing_the_checks_leaves_unchanged_ones_running() -> None:
    reports = Reports()
    checks = HealthChecks(reports)
    async with servers(3) as (control, one, two), running(checks):
        first = check_of(control, one)
        checks.watch([first, check_of(control, two, backend="v3")])
        await until(lambda: reports.newest.keys() == {"v2", "v3"})
        checks.watch([first])
        await until(lambda: one.requests > 3)
        before = two.requests
        start = one.requests
        await until(lambda: one.requests > start + 5)
        assert two.requests <= before + 1
        checks.watch([replace(first, target=Target(endpoints=(("127.0.0.1", two.port),), dns=False))])
        await until(lambda: two.requests > before + 2)


async def test_all_addresses_of_a_dns_name_are_checked() -> None:
    reports = Reports()
    names: dict[str, tuple[str, ...]] = {"v2.test": ("127.0.0.1", "127.0.0.2")}

    async def resolve(host: str, _port: int) -> tuple[str, ...]:
        await asyncio.sleep(0)
        if host not in names:
            raise OSError("no such name")
        return names[host]

    checks = HealthChecks(reports, resolve=resolve)
    async with servers(2) as (control, one), running(checks):
        by_name = replace(check_of(control, one), target=Target(endpoints=(("v2.test", one.port),), dns=True))
        checks.watch([by_name])
        await until(lambda: "v2" in reports.newest and reports.newest["v2"].total == 2)
        assert reports.newest["v2"].healthy == 1, "no server listens on the second address"
        names["v2.test"] = ("127.0.0.1",)
        await until(lambda: reports.newest["v2"].total == 1)
        names.clear()
        await until(lambda: reports.newest["v2"].healthy == 0)
