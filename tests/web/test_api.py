"""The HTTP API with a real engine and store: responses, errors and metrics."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from tests.support.configs import SCRIPTS
from tests.support.site import GOOD
from xds_server.engine import build_engine
from xds_server.store import AccessStore, SqliteStore, StoreError
from xds_server.web import Authenticator, Site, build, registry
from xds_server.xds.server import Hub

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.site import Client


async def test_a_route_can_be_created_read_and_deleted(client: Client) -> None:
    async with client.post("/v1/routes", data=GOOD) as response:
        assert response.status == 200
        assert (await response.json())["applied"] == [{"name": "chat", "action": "created", "generation": 1}]
    async with client.get("/v1/routes/chat/spec") as response:
        assert (await response.text()).strip() == GOOD.strip()
    async with client.get("/v1/routes") as response:
        assert [view["name"] for view in (await response.json())["routes"]] == ["chat"]
    async with client.delete("/v1/routes/chat") as response:
        assert await response.json() == {"deleted": "chat"}
    async with client.get("/v1/routes/chat") as response:
        assert response.status == 404


async def test_a_dry_run_changes_nothing(client: Client) -> None:
    async with client.post("/v1/routes?dryRun=true", data=GOOD) as response:
        assert response.status == 200
    async with client.get("/v1/routes") as response:
        assert (await response.json())["routes"] == []


async def test_an_invalid_spec_is_rejected_with_all_problems(client: Client) -> None:
    bad = GOOD.replace("stable: v1", "stable: v9").replace("setWeight: 5", "setWeight: 500")
    async with client.post("/v1/routes", data=bad, headers={"x-shiftplane-file": "a%20b.yaml"}) as response:
        assert response.status == 422
        problems = (await response.json())["problems"]
    assert len(problems) == 2
    assert {problem["file"] for problem in problems} == {"a b.yaml"}
    assert all(problem["line"] and problem["message"] and problem["allowed"] for problem in problems)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v1/routes/none", b"", 404, "there is no route 'none'; routes: chat"),
        ("POST", "/v1/routes/none/abort", b"", 404, "there is no route 'none'"),
        ("DELETE", "/v1/routes/none", b"", 404, "there is no route 'none'"),
        ("POST", "/v1/routes/chat/promote", b"", 409, "proxies"),
        ("POST", "/v1/routes/chat/promote", b"{", 400, "Invalid JSON"),
        ("POST", "/v1/routes/chat/promote", b"[]", 400, "Input should be an object"),
        ("POST", "/v1/routes/chat/promote", b'{"full": 1}', 400, "full: Input should be a valid boolean"),
        ("POST", "/v1/routes", b"\xff", 400, "invalid byte at offset 0"),
        ("GET", "/v1/routes/chat/events?limit=0", b"", 400, "a whole number from 1 to 10000"),
        ("GET", "/v1/nothing", b"", 404, ""),
        ("PUT", "/v1/routes", b"", 405, ""),
    ],
)
async def test_errors_are_problem_details(
    client: Client, method: str, path: str, body: bytes, status: int, message: str
) -> None:
    async with client.post("/v1/routes", data=GOOD):
        pass
    async with client.request(method, path, data=body) as response:
        assert response.status == status
        found = await response.json()
    assert message in found["detail"]
    assert found["status"] == status
    assert found["type"].startswith("urn:shiftplane:problem:")


async def test_a_body_that_is_too_large_is_rejected(client: Client) -> None:
    async with client.post("/v1/routes", data=io.BytesIO(b"x" * (9 << 20))) as response:
        assert response.status == 413
        assert response.content_type == "application/problem+json"
        assert (await response.json())["title"]


async def test_a_command_changes_the_route_and_is_in_its_history(client: Client) -> None:
    async with client.post("/v1/routes", data=GOOD):
        pass
    body = {"actor": "ada", "reason": "incident 42"}
    async with client.post("/v1/routes/chat/abort", json=body) as response:
        view = await response.json()
    assert view["phase"] in {"RollingBack", "RolledBack"}
    async with client.get("/v1/routes/chat/events") as response:
        events = (await response.json())["events"]
    assert any(event["actor"] == "ada" and "incident 42" in event["message"] for event in events)


async def test_metrics_parse_and_match_the_view(client: Client) -> None:
    async with client.post("/v1/routes", data=GOOD):
        pass
    async with client.get("/metrics") as response:
        text = await response.text()
    series = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert series["shiftplane_route_weight_percent", (("route", "chat"), ("variant", "v1"))] == 100
    names = {name for name, _ in series}
    assert names >= {
        "shiftplane_xds_pushes_total",
        "shiftplane_xds_streams",
        "shiftplane_xds_queue_seconds_bucket",
        "shiftplane_xds_convergence_seconds_count",
        "shiftplane_xds_turned_away_total",
        "shiftplane_xds_versions_stopped_total",
    }


async def test_the_server_is_ready_once_the_store_is_loaded(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    engine, hub = build_engine(store, SCRIPTS, Hub)
    authenticator = Authenticator(AccessStore(store.file), engine, is_open=True)
    site = Site(engine=engine, registry=registry(engine, hub), authenticator=authenticator)
    async with TestClient(TestServer(build(site))) as found:
        async with found.get("/healthz") as response:
            assert response.status == 200
        async with found.get("/readyz") as response:
            assert (response.status, response.content_type) == (503, "application/problem+json")
        await engine.committer.load()
        async with found.get("/readyz") as response:
            assert response.status == 200
    store.close()


async def test_a_store_error_mentions_changes_only_for_requests_that_change_data(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: object, **_options: object) -> None:
        raise StoreError("disk I/O error")

    async with client.post("/v1/routes", data=GOOD) as response:
        assert response.status == 200
    monkeypatch.setattr(SqliteStore, "history", failing)
    async with client.get("/v1/routes/chat/events") as response:
        assert (response.status, (await response.json())["detail"]) == (503, "disk I/O error")
    monkeypatch.setattr(SqliteStore, "commit", failing)
    async with client.post("/v1/routes/chat/pause", json={"reason": "x"}) as response:
        assert (response.status, (await response.json())["detail"]) == (
            503,
            "nothing was changed: disk I/O error",
        )
