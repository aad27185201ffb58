"""Log events carry the route, node and version that they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from tests.engine.harness import CANARY, V1, V2, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.engine import Action, Caller
from xds_server.xds.snapshot import CLUSTER

if TYPE_CHECKING:
    from pathlib import Path


def first(logs: list[Any], event: str) -> dict[str, Any]:
    return dict(next(entry for entry in logs if entry["event"] == event))


async def test_an_event_is_logged_with_the_route_and_its_state(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, CANARY))
        await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
        with capture_logs() as logs:
            await harness.engine.routes.command(
                "chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks")
            )
    view = harness.engine.queries.view("chat")
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


async def test_a_nack_is_logged_with_node_and_version(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        proxy = FakeProxy(harness.hub)
        await harness.apply(route(V1))
        await harness.phase("Healthy")
        held = harness.engine.queries.view("chat").convergence.version
        proxy.refuse = {CLUSTER}
        with capture_logs() as logs:
            await harness.apply(route(V1, more="timeouts: {connect: 3s}"))
            await harness.until(lambda: harness.engine.queries.view("chat").convergence.nacked == 1)
        entry = first(logs, "response_nacked")
        assert (entry["node"], entry["group"], entry["peer"]) == ("proxy-1", "chat", "test")
        assert entry["version"] == harness.engine.queries.view("chat").convergence.version
        assert entry["version"] != held
