"""Authorization: roles by labels, tokens, wrong secrets, cross-site requests, and their audit entries."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.support.proxy import FakeProxy
from tests.support.site import GOOD, serving, spec
from xds_server.access.audit import AuditEvent, entry_from_json
from xds_server.access.identity import Role
from xds_server.web import create_first_run_token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.site import Client, Served

COMMANDS = ("promote", "pause", "resume", "abort", "undo", "retry", "kill", "unkill")


async def test_without_a_token_requests_are_rejected(served: Served) -> None:
    await served.apply(GOOD)
    for path in ("/v1/routes", "/v1/routes/chat", "/v1/proxies", "/v1/audit", "/v1/tokens", "/v1/whoami"):
        status, body, headers = await served.request("GET", path)
        assert status == 401, path
        assert "shiftplane login" in body["detail"]
        assert headers["www-authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz"):
        assert (await served.request("GET", path))[0] == 200


async def test_a_viewer_can_change_nothing_and_each_refusal_is_audited(served: Served) -> None:
    await served.apply(GOOD)
    before = served.engine.queries.view("chat")
    token = served.token(Role.VIEWER, "vera")
    attempts: list[tuple[str, str, Any]] = [("POST", f"/v1/routes/chat/{verb}", b"{}") for verb in COMMANDS]
    attempts += [
        ("DELETE", "/v1/routes/chat", b""),
        ("POST", "/v1/routes", GOOD.replace("v2", "v3").encode()),
    ]
    attempts += [
        ("PUT", "/v1/routes/chat/spec", GOOD.encode()),
        ("POST", "/v1/tokens", b'{"name":"x","role":"admin"}'),
    ]
    attempts += [("GET", "/v1/tokens", b""), ("DELETE", "/v1/tokens/000000000000", b"")]
    for method, path, data in attempts:
        status, body, _ = await served.request(method, path, token=token, data=data)
        assert status == 403, path
        assert "vera may not" in body["detail"]
    assert (await served.request("GET", "/v1/routes/chat", token=token))[0] == 200
    assert served.engine.queries.view("chat") == before
    refused = [event for event in served.audit_events() if event[3] == "refused"]
    assert len(refused) == len(attempts)
    assert {event[0] for event in refused} == {"vera"}


async def test_an_operator_of_one_team_cannot_change_routes_of_another(served: Served) -> None:
    await served.apply(spec("search", "/search/", team="search"))
    await served.apply(spec("ads", "/ads/", team="ads"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    assert (await served.request("POST", "/v1/routes/search/abort", token=token, json={"reason": "slow"}))[
        0
    ] == 200
    for verb in COMMANDS:
        status, body, _ = await served.request("POST", f"/v1/routes/ads/{verb}", token=token)
        assert (status, "team=ads" in body["detail"]) == (403, True)
    status, body, _ = await served.request("GET", "/v1/routes", token=token)
    assert [view["name"] for view in body["routes"]] == ["search"]
    assert (await served.request("GET", "/v1/routes/ads", token=token))[0] == 403
    # The operator cannot take over, give away or create routes of other teams either.
    for text in (
        spec("ads", "/ads/", team="search"),
        spec("search", "/search/", team="ads"),
        spec("new", "/new/", team="ads"),
        spec("new", "/new/"),
    ):
        assert (await served.request("POST", "/v1/routes", token=token, data=text))[0] == 403
    assert (
        await served.request("POST", "/v1/routes", token=token, data=spec("new", "/new/", team="search"))
    )[0] == 200
    assert served.engine.queries.labels("ads") == {"team": "ads"}
    mine = (await served.request("GET", "/v1/audit", token=token))[1]["entries"]
    assert {entry["route"] for entry in mine} == {"search", "new"}
    assert ("sam", "kill", "ads", "refused") in served.audit_events()


async def test_a_viewer_of_some_routes_sees_only_their_proxies(served: Served) -> None:
    await served.apply(spec("search", "/search/", team="search").replace("group: chat", "group: edge"))
    await served.apply(spec("ads", "/ads/", team="ads"))
    FakeProxy(served.hub, "edge-1", "edge")
    FakeProxy(served.hub, "chat-1", "chat")
    cases: tuple[tuple[str, dict[str, str], list[str]], ...] = (
        ("search", {}, ["edge-1"]),
        ("ads", {}, ["chat-1"]),
        ("ads", {"group": "edge"}, []),
        ("", {}, ["chat-1", "edge-1"]),
        ("", {"group": "edge"}, ["edge-1"]),
    )
    for team, params, seen in cases:
        token = served.token(Role.VIEWER, team=team) if team else served.token(Role.VIEWER)
        body = (await served.request("GET", "/v1/proxies", token=token, params=params))[1]
        assert [proxy["id"] for proxy in body["proxies"]] == seen, (team, params)


async def test_an_operator_cannot_claim_requests_of_another_teams_route(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    await served.apply(spec("search", "/search/", team="search"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    for text in (
        spec("more", "/ads/v1/", team="search"),
        spec("search", "/ads/v1/", team="search"),
        spec("more", "/", team="search").replace("path:", "hosts: [ads.example.com], path:"),
    ):
        status, body, _ = await served.request("POST", "/v1/routes", token=token, data=text)
        assert (status, "requests from route 'ads'" in body["detail"]) == (403, True), body
    assert ("sam", "apply", "more", "refused") in served.audit_events()
    assert (await served.request("POST", "/v1/routes", token=token, data=spec("more", "/", team="search")))[
        0
    ] == 200
    # A claim that an admin of both routes has granted can be changed by the team.
    await served.apply(spec("inner", "/ads/search/", team="search"))
    changed = spec("inner", "/ads/search/", team="search").replace("setWeight: 5", "setWeight: 7")
    assert (await served.request("POST", "/v1/routes", token=token, data=changed))[0] == 200


async def test_deleting_requires_an_admin_of_the_route(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    operator, admin = served.token(Role.OPERATOR, team="ads"), served.token(Role.ADMIN, team="ads")
    assert (await served.request("DELETE", "/v1/routes/ads", token=operator))[0] == 403
    assert (await served.request("GET", "/v1/tokens", token=admin))[0] == 403, (
        "an admin of some routes is not an admin of all routes"
    )
    assert (await served.request("DELETE", "/v1/routes/ads", token=admin))[0] == 200


async def test_tokens_can_be_created_used_and_revoked(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    wanted = {"name": "ci", "role": "operator", "routes": "team=search", "expires_in": 60}
    status, body, headers = await served.request("POST", "/v1/tokens", token=admin, json=wanted)
    assert (status, headers["cache-control"]) == (200, "no-store")
    text, ident = body["text"], body["token"]["id"]
    who = (await served.request("GET", "/v1/whoami", token=text))[1]
    assert (who["name"], who["grants"]) == ("ci", [{"role": "operator", "routes": {"team": "search"}}])
    listed = (await served.request("GET", "/v1/tokens", token=admin))[1]
    assert text not in str(listed)
    assert next(one for one in listed["tokens"] if one["id"] == ident)["last_used_at"]
    assert (await served.request("DELETE", f"/v1/tokens/{ident}", token=admin))[0] == 200
    assert (await served.request("GET", "/v1/whoami", token=text))[0] == 401
    assert [d[1] for d in served.audit_events()][-3:] == ["create-token", "revoke-token", "login"]


async def test_the_store_contains_no_secret(served: Served, tmp_path: Path) -> None:
    text = served.token(Role.ADMIN)
    assert (await served.request("GET", "/v1/whoami", token=text))[0] == 200
    kept = b"".join(file.read_bytes() for file in list(tmp_path.glob("state.sqlite*")))  # noqa: ASYNC240
    assert text.encode() not in kept
    assert text.split("_", 2)[2].encode() not in kept


async def test_an_expired_token_is_rejected(served: Served) -> None:
    token = served.token(Role.ADMIN, lifetime=-1)
    status, body, _ = await served.request("GET", "/v1/routes", token=token)
    assert (status, "has expired" in body["detail"]) == (401, True)


async def test_too_many_wrong_secrets_are_rejected_without_audit_entries(served: Served) -> None:
    good, wrong = served.token(Role.VIEWER), "spt_000000000000_" + "A" * 43
    statuses = [(await served.request("GET", "/v1/routes", token=wrong))[0] for _ in range(15)]
    assert statuses == [401] * 10 + [429] * 5
    status, _, headers = await served.request("GET", "/v1/routes", token=wrong)
    assert (status, int(headers["retry-after"]) > 0) == (429, True)
    assert (await served.request("GET", "/v1/routes", token=good))[0] == 200, "a valid token still works"
    attempts = [event for event in served.audit_events() if event[1] == "login"]
    assert len(attempts) == 10, "further attempts are not in the audit log"
    assert attempts[0][0] == "token 000000000000"


@pytest.mark.parametrize(
    ("scheme", "status"),
    [("Basic YTpi", 401), ("Bearer", 401), ("Bearer spt_nonsense", 401), ("Bearer \u00ff", 401), ("", 401)],
)
async def test_invalid_authorization_headers_are_rejected(served: Served, scheme: str, status: int) -> None:
    headers = {"authorization": scheme} if scheme else {}
    assert (await served.request("GET", "/v1/routes", headers=headers))[0] == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_cross_site_requests_are_rejected(client: Client, headers: dict[str, str]) -> None:
    async with client.post("/v1/routes", data=GOOD, headers=headers) as response:
        assert response.status == 403
    async with client.get("/v1/routes", headers={"host": "evil.example"}) as response:
        assert response.status == 421, "open mode rejects host names of other sites"


async def test_the_first_run_creates_one_token(tmp_path: Path) -> None:
    async with serving(tmp_path, is_open=False) as served:
        now = time.time()
        text = create_first_run_token(served.access, now)
        assert text is not None
        assert create_first_run_token(served.access, now) is None, "only once"
        body = {"name": "ada", "role": "operator"}
        assert (await served.request("POST", "/v1/tokens", token=text, json=body))[0] == 200
        assert (await served.request("GET", "/v1/whoami", token=text))[0] == 200
        body = {"name": "ada", "role": "admin"}
        assert (await served.request("POST", "/v1/tokens", token=text, json=body))[0] == 200
        assert (await served.request("GET", "/v1/whoami", token=text))[0] == 401, (
            "a new admin token deletes it"
        )
        assert create_first_run_token(served.access, now + 100_000) is None


async def test_an_expired_first_run_token_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path, is_open=False) as served:
        now = time.time()
        first = create_first_run_token(served.access, now)
        assert create_first_run_token(served.access, now + 80_000) is None
        second = create_first_run_token(served.access, now + 90_000)
        assert second not in {None, first}
        assert [token.first for token in served.access.tokens()] == [True]


async def test_a_command_with_a_repeated_key_is_executed_once(served: Served) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR)
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k-1"}, "json": {"reason": "why"}}
    first = await served.request("POST", "/v1/routes/chat/pause", **send)
    assert first[0] == 200
    assert "idempotent-replayed" not in first[2]
    again = await served.request("POST", "/v1/routes/chat/pause", **send)
    assert (again[0], again[2]["idempotent-replayed"]) == (200, "true")
    status, body, _ = await served.request("POST", "/v1/routes/chat/resume", **send)
    assert (status, body["type"]) == (422, "urn:shiftplane:problem:key_reused")
    assert [d[1] for d in served.audit_events()].count("pause") == 1
    other = served.token(Role.OPERATOR, "other")
    assert (await served.request("POST", "/v1/routes/chat/resume", **{**send, "token": other}))[0] == 200


@pytest.mark.parametrize(
    ("header", "reported", "actor"),
    [
        ("", "", "ada"),
        ("ada", "", "ada"),
        ("kim@laptop", "kim@laptop", "ada (as kim@laptop)"),
        ("", "kim@laptop", "ada (as kim@laptop)"),
        ("", "da", "ada (as da)"),
    ],
)
async def test_the_reported_user_is_recorded_with_the_token(
    served: Served, header: str, reported: str, actor: str
) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR, "ada")
    headers = {"x-shiftplane-actor": header} if header else {}
    body = {"actor": reported, "reason": "why"}
    await served.request("POST", "/v1/routes/chat/abort", token=token, headers=headers, json=body)
    assert served.audit_events()[-1][:2] == (actor, "abort")


async def test_if_match_star_deletes_any_version(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    await served.apply(GOOD)
    status, _, _ = await served.request("DELETE", "/v1/routes/chat", token=admin, headers={"if-match": "*"})
    assert status == 200


async def test_a_repeated_apply_does_not_overwrite_a_newer_spec(served: Served) -> None:
    token = served.token(Role.OPERATOR)
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k-2"}, "data": GOOD}
    first = await served.request("POST", "/v1/routes", **send)
    assert first[:2] == (
        200,
        {"applied": [{"name": "chat", "action": "created", "generation": 1}], "warnings": []},
    )
    await served.apply(GOOD.replace("setWeight: 5", "setWeight: 7"))
    again = await served.request("POST", "/v1/routes", **send)
    assert again[:2] == first[:2]
    assert again[2]["idempotent-replayed"] == "true"
    assert "setWeight: 7" in served.engine.queries.spec_text("chat")
    status, body, _ = await served.request("PUT", "/v1/routes/chat/spec", **send)
    assert (status, body["type"]) == (422, "urn:shiftplane:problem:key_reused")


async def test_if_match_prevents_overwriting_a_newer_spec(served: Served) -> None:
    token = served.token(Role.OPERATOR)
    path = "/v1/routes/chat/spec"
    status, _, headers = await served.request("PUT", path, token=token, data=GOOD, headers={"if-match": "*"})
    assert status == 412, "there is none yet"
    status, _, headers = await served.request("PUT", path, token=token, data=GOOD)
    assert status == 200
    tag = headers["etag"]
    assert (await served.request("GET", path, token=token))[2]["etag"] == tag
    changed = GOOD.replace("setWeight: 5", "setWeight: 7")
    status, _, headers = await served.request(
        "PUT", path, token=token, data=changed, headers={"if-match": tag}
    )
    assert (status, headers["etag"] != tag) == (200, True)
    status, body, _ = await served.request("PUT", path, token=token, data=GOOD, headers={"if-match": tag})
    assert (status, "changed in the meantime" in body["detail"]) == (412, True)
    admin = served.token(Role.ADMIN)
    assert (await served.request("DELETE", "/v1/routes/chat", token=admin, headers={"if-match": tag}))[
        0
    ] == 412
    two = GOOD + "---\n" + spec("other", "/other/")
    assert (await served.request("PUT", path, token=token, data=two))[0] == 409


async def test_lists_are_read_in_pages(served: Served) -> None:
    token = served.token(Role.ADMIN)
    for name in "abcde":
        await served.apply(spec(name, f"/{name}/"))
    seen, after = [], ""
    while after is not None:
        body = (await served.request("GET", "/v1/routes", token=token, params={"limit": 2, "after": after}))[
            1
        ]
        seen += [view["name"] for view in body["routes"]]
        after = body["next"]
    assert seen == list("abcde")
    whole = (await served.request("GET", "/v1/routes/a/events", token=token))[1]["events"]
    pages, before = [], {}
    while True:
        params = {"limit": 1, **before}
        body = (await served.request("GET", "/v1/routes/a/events", token=token, params=params))[1]
        pages = body["events"] + pages
        if body["next"] is None:
            break
        before = {"before": body["next"]}
    assert pages == whole
    entries, before = [], {}
    while True:
        body = (await served.request("GET", "/v1/audit", token=token, params={"limit": 2, **before}))[1]
        entries = body["entries"] + entries
        if body["next"] is None:
            break
        before = {"before": body["next"]}
    assert [entry["seq"] for entry in entries] == list(range(1, served.store.head().seq + 1))


async def test_unknown_query_parameters_are_rejected(served: Served) -> None:
    status, body, _ = await served.request("GET", "/v1/audit?limt=3", token=served.token(Role.VIEWER))
    assert (status, "limt" in body["detail"], "limit" in body["detail"]) == (400, True, True)


async def test_every_audit_entry_is_logged_as_a_checkpoint(served: Served) -> None:
    with capture_logs() as logs:
        admin = served.token(Role.ADMIN)
        body = {"name": "ci", "role": "viewer"}
        assert (await served.request("POST", "/v1/tokens", token=admin, json=body))[0] == 200
        async with served.client.post("/login", data={"token": admin}, allow_redirects=False) as response:
            assert response.status == 303
        await served.apply(GOOD + "---\n" + spec("other", "/other/"))
        assert (await served.request("GET", "/v1/tokens", token="spt_wrong"))[0] == 401
    logged = {(line["seq"], line["hash"]) for line in logs if line["event"] == "audited"}
    stored = served.store.audit(100)
    assert len(stored) == 6
    assert logged == {(entry.seq, entry.hash) for entry in stored}


async def test_the_audit_log_can_be_exported_and_verified(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    for number in range(600):
        served.store.add_audit_event(AuditEvent(at=1.0, actor="test", action="promote", detail=str(number)))
    headers = {"authorization": f"Bearer {admin}"}
    async with served.client.get("/v1/audit/export", headers=headers) as response:
        entries = [entry_from_json(json.loads(line)) for line in (await response.text()).splitlines()]
    assert tuple(entries) == served.store.audit(1_000)
    checkpoints = [("anchor", f"{one.seq}:{one.hash}") for one in entries]
    path = "/v1/audit/verify"
    status, body, _ = await served.request("GET", path, token=admin, params=checkpoints[:90])
    assert (status, body) == (200, {"holds": True, "entries": 601, "breaks": []})
    wrong = ("anchor", f"601:{entries[0].hash}")
    status, body, _ = await served.request("GET", path, token=admin, params=[*checkpoints[:90], wrong])
    assert (status, body["holds"]) == (200, False)
    status, body, _ = await served.request("GET", path, token=admin, params=[*checkpoints[:100], wrong])
    assert (status, "100" in body["detail"]) == (400, True), "too many checkpoints are rejected"
