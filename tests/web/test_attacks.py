"""Attacks over HTTP, each of which was once possible."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from tests.support.site import GOOD, serving, spec
from xds_server.access.audit import AuditEvent, Checkpoint, entry_from_json, verify
from xds_server.access.identity import Role
from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.engine.queries import RouteQueries
from xds_server.store import StoredBlock, audit_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.site import Served
    from xds_server.store import SqliteStore
    from xds_server.view import RouteView


async def test_a_refused_command_is_refused_again_when_it_is_repeated_with_its_key(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    token = served.token(Role.VIEWER, "sam", team="search")
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k"}, "json": {"reason": "x"}}
    for _ in range(2):
        status, body, headers = await served.request("POST", "/v1/routes/ads/kill", **send)
        assert status == 403
        assert "idempotent-replayed" not in headers
        assert "weights" not in body


async def test_a_command_that_the_phase_refused_is_not_replayed_as_done(
    served: Served,
) -> None:
    await served.apply(GOOD)
    send: dict[str, Any] = {"token": served.token(Role.OPERATOR), "headers": {"idempotency-key": "k"}}
    for _ in range(2):
        assert (await served.request("POST", "/v1/routes/chat/unkill", **send))[0] == 409
    kill = {"token": send["token"], "json": {"reason": "why"}}
    assert (await served.request("POST", "/v1/routes/chat/kill", **kill))[0] == 200
    status, body, headers = await served.request("POST", "/v1/routes/chat/unkill", **send)
    assert (status, body["kill"], "idempotent-replayed" in headers) == (200, None, False)


async def test_a_repeated_key_does_not_show_a_route_that_moved_to_another_team(served: Served) -> None:
    await served.apply(spec("chat", team="search"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k"}}
    assert (await served.request("POST", "/v1/routes/chat/pause", **send))[0] == 200
    await served.apply(spec("chat", team="ads"))
    assert (await served.request("POST", "/v1/routes/chat/pause", **send))[0] == 403


async def test_parsing_a_large_spec_does_not_delay_a_kill(served: Served) -> None:
    await served.apply(GOOD)
    token, large = served.token(Role.OPERATOR), f"a: [{'1,' * 150_000}1]\n"
    reading = asyncio.create_task(served.request("POST", "/v1/routes", token=token, data=large))
    await served.until(served.engine.routes._loading.locked)
    kill: dict[str, Any] = {"token": token, "json": {"reason": "why"}}
    assert (await served.request("POST", "/v1/routes/chat/kill", **kill))[0] == 200
    assert not reading.done(), "the kill waited for the spec"
    assert (await reading)[0] == 422


async def test_a_spec_of_a_viewer_is_rejected_before_it_is_parsed(served: Served) -> None:
    token, wrong = served.token(Role.VIEWER, "vera"), "a: ["
    for method, path in (("POST", "/v1/routes"), ("PUT", "/v1/routes/chat/spec")):
        status, body, _ = await served.request(method, path, token=token, data=wrong)
        assert (status, "problems" in body) == (403, False)
    assert [event[:2] for event in served.audit_events() if event[3] == "refused"] == [("vera", "apply")] * 2


async def test_verifying_or_exporting_a_long_audit_log_does_not_block_writers(served: Served) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR)
    fill_audit_log(served.store, 20_000)
    kill: dict[str, Any] = {"token": token, "json": {"reason": "why"}}
    for path in ("/v1/audit/verify", "/v1/audit/export"):
        reading = asyncio.create_task(read(served, path, token))
        await served.until(served.engine.queries._long.locked)
        for verb in ("kill", "unkill"):
            assert (await served.request("POST", f"/v1/routes/chat/{verb}", **kill))[0] == 200
        assert not reading.done(), path
        assert await reading
    assert json.loads(await read(served, "/v1/audit/verify", token))["holds"]
    assert "shiftplane audit verify" in await read(served, "/audit", token), (
        "the page does not verify a long audit log"
    )


async def test_an_export_contains_the_whole_audit_log_and_verifies(served: Served) -> None:
    fill_audit_log(served.store, 250)
    token = served.token(Role.VIEWER)
    lines = (await read(served, "/v1/audit/export", token)).splitlines()
    found = [entry_from_json(json.loads(line)) for line in lines]
    assert list(verify(found, Checkpoint(seq=251, hash=found[-1].hash))) == []


async def read(served: Served, path: str, token: str) -> str:
    """Return the body of a response."""
    async with served.client.get(path, headers={"authorization": f"Bearer {token}"}) as response:
        assert response.status == 200
        return await response.text()


def fill_audit_log(store: SqliteStore, entries: int) -> None:
    """Append entries to the audit log in one transaction."""
    with store.file.writing() as db:
        for number in range(entries):
            audit_log.append(db, AuditEvent(at=float(number), actor="ada", action="see", route="chat"))


async def test_tokens_and_logins_are_logged_as_checkpoints(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    with structlog.testing.capture_logs() as logged:
        status, body, _ = await served.request(
            "POST", "/v1/tokens", token=admin, json={"name": "ci", "role": "viewer"}
        )
        assert status == 200
        async with served.client.post("/login", data={"token": body["text"]}, allow_redirects=False):
            pass
        assert (await served.request("DELETE", f"/v1/tokens/{body['token']['id']}", token=admin))[0] == 200
    entries = served.store.audit(10)
    checkpoints = [(line["seq"], line["hash"]) for line in logged if line["event"] == "audited"]
    assert checkpoints == [(entry.seq, entry.hash) for entry in entries if entry.event.actor != "test"]


async def test_many_readers_of_blocks_do_not_block_writers(served: Served) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR)
    legs = {Leg(route="chat", variant=variant): Counts(requests=100) for variant in ("v1", "v2")}
    kept = [
        StoredBlock(route="chat", run=1, block=Block(start=1e9 + at, seconds=10.0, legs=legs))
        for at in range(2_000)
    ]
    served.store.save_blocks(kept, drop_before=0)
    reading = [asyncio.create_task(read(served, "/v1/routes/chat/blocks", token)) for _ in range(12)]
    await served.until(served.engine.queries._wide.locked)
    kill: dict[str, Any] = {"token": token, "json": {"reason": "why"}}
    assert (await served.request("POST", "/v1/routes/chat/kill", **kill))[0] == 200
    assert not all(task.done() for task in reading)
    assert {len(text.splitlines()) for text in await asyncio.gather(*reading)} == {2_000}


async def test_live_updates_end_with_the_login(served: Served) -> None:
    await served.apply(spec("chat", team="search"))
    token, admin = served.token(Role.VIEWER, "vera"), served.token(Role.ADMIN)
    async with served.client.post("/login", data={"token": token}, allow_redirects=False):
        pass
    async with served.client.get("/live") as page, served.client.get("/routes/chat/live") as route:
        assert (await page.content.readline(), await route.content.readline()) == (b"event: page\n",) * 2
        ident = token.split("_")[1]
        assert (await served.request("DELETE", f"/v1/tokens/{ident}", token=admin))[0] == 200
        for response in (page, route):
            async with asyncio.timeout(10):
                assert b"event: end" in await response.content.read()


async def test_live_updates_end_when_the_route_moves_to_another_team(served: Served) -> None:
    await served.apply(spec("chat", team="search"))
    token = served.token(Role.VIEWER, "vera", team="search")
    headers = {"authorization": f"Bearer {token}"}
    async with served.client.get("/routes/chat/live", headers=headers) as route:
        assert await route.content.readline() == b"event: page\n"
        await served.apply(spec("chat", team="ads"))
        async with asyncio.timeout(10):
            rest = await route.content.read()
    assert b"event: end" in rest
    assert b"team=ads" not in rest


async def test_a_fragment_for_many_browsers_is_rendered_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.apply(GOOD)
    rendered: list[str] = []

    view = RouteQueries.view

    def counted_view(queries: RouteQueries, name: str) -> RouteView:
        rendered.append(name)
        return view(queries, name)

    monkeypatch.setattr(RouteQueries, "view", counted_view)
    headers = {"authorization": f"Bearer {served.token(Role.VIEWER)}"}
    async with AsyncExitStack() as stack:
        following = [
            await stack.enter_async_context(served.client.get("/live", headers=headers)) for _ in range(50)
        ]
        for response in following:
            assert await response.content.readline() == b"event: page\n"
    assert len(rendered) < 25


@pytest.mark.parametrize("target", ["/\t/evil.example", "/\x00", "/\x7f", "/\u00a0", "/ /evil.example"])
async def test_a_login_does_not_redirect_to_paths_that_browsers_normalize(
    served: Served, target: str
) -> None:
    form = {"token": served.token(Role.VIEWER), "next": target}
    async with served.client.post("/login", data=form, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (303, "/")


@pytest.mark.parametrize("origin", ["file://", "evil", "about:blank", ""])
async def test_an_origin_without_host_is_cross_site(served: Served, origin: str) -> None:
    form, headers = {"token": served.token(Role.VIEWER)}, {"origin": origin}
    async with served.client.post("/login", data=form, headers=headers, allow_redirects=False) as response:
        assert response.status == 403


async def test_invalid_bytes_in_a_header_do_not_prevent_an_audit_entry(served: Served) -> None:
    await served.apply(GOOD)
    token = served.token(Role.VIEWER, "vera")
    status = await sent_raw(served, "POST", "/v1/routes/chat/kill", token, b"x-shiftplane-actor: ro\xffot")
    assert status == 403
    status = await sent_raw(served, "DELETE", "/v1/routes/chat", token, b"x-shiftplane-reason: be\xffcause")
    assert status == 403
    refused = [event[:2] for event in served.audit_events() if event[3] == "refused"]
    assert refused == [("vera (as ro\ufffdot)", "kill"), ("vera", "delete")]


async def sent_raw(served: Served, method: str, path: str, token: str, header: bytes) -> int:
    """Send a header with arbitrary bytes, and return the status of the response."""
    reader, writer = await asyncio.open_connection(served.client.host, served.client.port)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
    head += "" if b"authorization" in header else f"authorization: Bearer {token}\r\n"
    writer.write(head.encode() + header + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(response.split()[1])


async def test_errors_do_not_reveal_names_of_invisible_routes(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    await served.apply(spec("search", "/search/", team="search"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    for method, path in (
        ("GET", "/v1/routes/nope"),
        ("POST", "/v1/routes/nope/kill"),
        ("DELETE", "/v1/routes/nope"),
    ):
        status, body, _ = await served.request(method, path, token=token)
        assert (status, "ads" in body["detail"]) == (404, False)
    assert "search" in (await served.request("GET", "/v1/routes/nope", token=token))[1]["detail"]


async def test_many_refused_requests_are_limited_and_do_not_fill_the_audit_log(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    await served.apply(spec("search", "/search/", team="search"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    before, responses = served.store.head().seq, []
    for number in range(130):
        path = ("/v1/routes/ads/kill", "/v1/routes/ads", "/v1/routes/search/unkill")[number % 3]
        headers = {"x-shiftplane-actor": f"n{number}"}
        status, _, response_headers = await served.request(
            "GET" if path.endswith("ads") else "POST", path, token=token, headers=headers
        )
        responses.append((status, "retry-after" in response_headers))
    assert set(responses[:100]) == {(403, False), (409, False)}
    assert set(responses[110:]) == {(429, True)}
    assert served.store.head().seq - before <= 110
    async with served.client.get("/routes/ads", headers={"authorization": f"Bearer {token}"}) as page:
        assert (page.status, page.content_type) == (429, "text/html")
    assert (await served.request("POST", "/v1/routes/search/abort", token=token))[0] == 200, (
        "allowed commands still work"
    )
    other = served.token(Role.OPERATOR, "sue", team="search")
    assert (await served.request("GET", "/v1/routes/ads", token=other))[0] == 403


async def test_many_logins_are_limited_and_do_not_fill_the_audit_log(served: Served) -> None:
    token = served.token(Role.VIEWER)
    statuses = []
    for _ in range(120):
        async with served.client.post("/login", data={"token": token}, allow_redirects=False) as response:
            statuses.append(response.status)
    assert statuses[:100] == [303] * 100
    assert set(statuses[110:]) == {429}
    assert (await served.request("GET", "/v1/whoami", token=token))[0] == 200


async def test_a_recreated_route_does_not_reveal_the_history_of_the_deleted_one(served: Served) -> None:
    await served.apply(spec("chat", team="ads"))
    admin, other = served.token(Role.ADMIN, "ada"), served.token(Role.OPERATOR, "sam", team="search")
    secret: dict[str, Any] = {"token": admin, "json": {"reason": "the secret reason"}}
    assert (await served.request("POST", "/v1/routes/chat/abort", **secret))[0] == 200
    legs = {Leg(route="chat", variant="v1"): Counts(requests=100)}
    block = StoredBlock(route="chat", run=1, block=Block(start=1e9, seconds=10.0, legs=legs))
    served.store.save_blocks([block], drop_before=0)
    served.store.add_days({("2026-01-31", next(iter(legs))): legs[next(iter(legs))]}, drop_before="")
    assert (await served.request("DELETE", "/v1/routes/chat", token=admin))[0] == 200
    assert (await served.request("POST", "/v1/routes", token=other, data=spec("chat", team="search")))[
        0
    ] == 200
    for path in ("/v1/audit", "/v1/routes/chat/events", "/audit", "/routes/chat"):
        text = await read(served, path, other)
        assert "secret" not in text, path
        assert "team: ads" not in text, path
    assert await read(served, "/v1/routes/chat/blocks", other) == ""
    assert (await served.request("GET", "/v1/routes/chat/costs", token=other))[1]["days"] == []
    assert "the secret reason" in await read(served, "/v1/audit", admin)


async def test_pages_work_while_the_store_is_read_only(served: Served) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR)
    async with served.client.post("/login", data={"token": token}, allow_redirects=False):
        pass
    with served.store.file.writing() as db:
        db.execute("UPDATE sessions SET seen_at = seen_at - 100")
        db.execute("UPDATE tokens SET last_used_at = NULL")
    with served.store.file.reading() as db:
        db.execute("PRAGMA query_only = ON")
    assert (await served.request("GET", "/v1/routes/chat", token=token))[0] == 200
    async with served.client.get("/routes/chat") as page:
        assert page.status == 200
    assert (await served.request("POST", "/v1/routes/chat/abort", token=token))[0] == 503


@pytest.mark.parametrize(
    "header", [b"authorization: Bearer \xff", b"x-shiftplane-signature: sha256=\xff", b"x-a: b"]
)
async def test_invalid_bytes_in_alarm_headers_are_rejected(tmp_path: Path, header: bytes) -> None:
    timestamp = b"x-shiftplane-timestamp: " + str(int(time.time())).encode() + b"\r\n"
    async with serving(tmp_path, is_open=False, secret=b"s3cret") as served:
        for path in ("/v1/alarms/alertmanager", "/v1/alarms/webhook"):
            assert await sent_raw(served, "POST", path, "x", timestamp + header) == 401


async def test_wrong_alarm_secrets_are_limited(tmp_path: Path) -> None:
    async with serving(tmp_path, is_open=False, secret=b"s3cret") as served:
        statuses = [
            (await served.request("POST", "/v1/alarms/alertmanager", token=f"guess{n}", json={"alerts": []}))[
                0
            ]
            for n in range(15)
        ]
        assert statuses == [401] * 10 + [429] * 5
        right = await served.request("POST", "/v1/alarms/alertmanager", token="s3cret", json={"alerts": []})
        assert right[0] == 200


async def test_a_kill_does_not_wait_for_busy_default_threads(served: Served) -> None:
    await served.apply(GOOD)
    token, over = served.token(Role.OPERATOR), threading.Event()
    taken = [asyncio.create_task(asyncio.to_thread(over.wait, 30)) for _ in range(64)]
    try:
        kill: dict[str, Any] = {
            "token": token,
            "json": {"reason": "why"},
            "headers": {"idempotency-key": "k"},
        }
        async with asyncio.timeout(10):
            assert (await served.request("POST", "/v1/routes/chat/kill", **kill))[0] == 200
    finally:
        over.set()
        await asyncio.gather(*taken)
