"""Lines of the log say whom they are about: the route, the node, the version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from tests.engine.house import CANARY, V1, V2, living
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.engine import Action, Caller
from xds_server.xds.snapshot import CLUSTER

if TYPE_CHECKING:
    from pathlib import Path


def first(logs: list[Any], event: str) -> dict[str, Any]:
    return dict(next(entry for entry in logs if entry["event"] == event))


async def test_what_happens_to_a_route_says_which_and_how_it_stands(tmp_path: Path) -> None:
    async with living(tmp_path / "state.sqlite") as house:
        FakeProxy(house.hub)
        await house.apply(route(V1, V2, CANARY))
        await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
        with capture_logs() as logs:
            await house.engine.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
    view = house.engine.view("chat")
    assert first(logs, "killed") == {
        "event": "killed",
        "log_level": "info",
        "route": "chat",
        "group": "chat",
        "generation": view.generation,
        "revision": view.revision,
        "phase": "Killed",
        "actor": "ada",
        "message": "v1 serves all users: v2 leaks",
    }


async def test_a_refusal_says_who_refused_which_version(tmp_path: Path) -> None:
    async with living(tmp_path / "state.sqlite") as house:
        proxy = FakeProxy(house.hub)
        await house.apply(route(V1))
        await house.phase("Healthy")
        held = house.engine.view("chat").convergence.version
        proxy.refuse = {CLUSTER}
        with capture_logs() as logs:
            await house.apply(route(V1, more="timeouts: {connect: 3s}"))
            await house.until(lambda: house.engine.view("chat").convergence.nacked == 1)
        said = first(logs, "config_rejected")
        assert (said["node"], said["group"], said["peer"]) == ("proxy-1", "chat", "test")
        assert said["version"] == house.engine.view("chat").convergence.version
        assert said["version"] != held
