"""Real servers on loopback that live, die, hang and come back; the asker's own blindness."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from demo.processes import free_port
from xds_server.health import HealthChecks, Target, Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from xds_server.rollout import Health


class Server:
    """Answers /health with `status`; None hangs until the server ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status: int | None = 200
        self.asked = 0
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
        self.asked += 1
        if self.status is None:
            await self._over.wait()
        return web.Response(status=self.status or 200, body=b"x" * 1_000_000)


class Heard:
    """The newest word on each backend."""

    def __init__(self) -> None:
        self.of: dict[str, Health] = {}

    def __call__(self, route: str, found: Health) -> None:
        assert route == "chat"
        self.of[found.backend] = found


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def asking(checks: HealthChecks) -> AsyncIterator[None]:
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


def watched(control: Server, *endpoints: Server, backend: str = "v2") -> Watched:
    def target(*ports: int) -> Target:
        return Target(endpoints=tuple(("127.0.0.1", port) for port in ports), dns=False)

    return Watched(
        route="chat",
        backend=backend,
        target=target(*(server.port for server in endpoints)),
        control=target(control.port),
        path="/health",
        interval=0.02,
        timeout=0.2,
        threshold=2,
    )


async def test_life_death_and_life_again() -> None:
    heard = Heard()
    checks = HealthChecks(heard)
    async with servers(3) as (control, one, two), asking(checks):
        checks.watch([watched(control, one, two)])
        await until(lambda: "v2" in heard.of and heard.of["v2"].healthy == 2)
        await one.stop()
        await until(lambda: heard.of["v2"].healthy == 1)
        assert f"127.0.0.1:{one.port}" in heard.of["v2"].detail
        two.status = 503
        await until(lambda: heard.of["v2"].healthy == 0)
        assert "answered 503" in heard.of["v2"].detail
        two.status = 404
        await until(lambda: heard.of["v2"].healthy == 1)
        two.status = None
        await until(lambda: heard.of["v2"].healthy == 0)
        assert "did not answer within 0.2 s" in heard.of["v2"].detail


async def test_who_sees_nobody_says_nothing() -> None:
    heard = Heard()
    checks = HealthChecks(heard)
    async with servers(2) as (control, one), asking(checks):
        checks.watch([watched(control, one)])
        await until(lambda: "v2" in heard.of and heard.of["v2"].healthy == 1)
        control.status = 500
        await one.stop()
        await until(lambda: checks.counts.blind >= 3)
        assert heard.of["v2"].healthy == 1
        control.status = 200
        await until(lambda: heard.of["v2"].healthy == 0)


async def test_what_is_watched_changes_and_the_rest_goes_on() -> None:
    heard = Heard()
    checks = HealthChecks(heard)
    async with servers(3) as (control, one, two), asking(checks):
        first = watched(control, one)
        checks.watch([first, watched(control, two, backend="v3")])
        await until(lambda: heard.of.keys() == {"v2", "v3"})
        checks.watch([first])
        await until(lambda: one.asked > 3)
        before = two.asked
        start = one.asked
        await until(lambda: one.asked > start + 5)
        assert two.asked <= before + 1
        checks.watch([replace(first, target=Target(endpoints=(("127.0.0.1", two.port),), dns=False))])
        await until(lambda: two.asked > before + 2)


async def test_all_addresses_behind_a_name_are_asked() -> None:
    heard = Heard()
    names: dict[str, tuple[str, ...]] = {"v2.test": ("127.0.0.1", "127.0.0.2")}

    async def resolve(host: str, _port: int) -> tuple[str, ...]:
        await asyncio.sleep(0)
        if host not in names:
            raise OSError("no such name")
        return names[host]

    checks = HealthChecks(heard, resolve=resolve)
    async with servers(2) as (control, one), asking(checks):
        by_name = replace(watched(control, one), target=Target(endpoints=(("v2.test", one.port),), dns=True))
        checks.watch([by_name])
        await until(lambda: "v2" in heard.of and heard.of["v2"].total == 2)
        assert heard.of["v2"].healthy == 1, "nobody listens at the second address"
        names["v2.test"] = ("127.0.0.1",)
        await until(lambda: heard.of["v2"].total == 1)
        names.clear()
        await until(lambda: heard.of["v2"].healthy == 0)
