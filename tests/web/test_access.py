"""Who may do what: roles over labels, tokens that end, wrong secrets, other sites; every try is known."""

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
from xds_server.web import first_token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.site import Client, Served

COMMANDS = ("promote", "pause", "resume", "abort", "undo", "retry", "kill", "unkill")


async def test_without_a_token_nothing_is_told(served: Served) -> None:
    await served.apply(GOOD)
    for path in ("/v1/routes", "/v1/routes/chat", "/v1/proxies", "/v1/audit", "/v1/tokens", "/v1/whoami"):
        status, said, headers = await served.ask("GET", path)
        assert status == 401, path
        assert "shiftplane login" in said["detail"]
        assert headers["www-authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz"):
        assert (await served.ask("GET", path))[0] == 200


async def test_a_viewer_can_change_nothing_and_each_try_is_in_the_audit(served: Served) -> None:
    await served.apply(GOOD)
    before = served.engine.queries.view("chat")
    token = served.token(Role.VIEWER, "vera")
    tries: list[tuple[str, str, Any]] = [("POST", f"/v1/routes/chat/{verb}", b"{}") for verb in COMMANDS]
    tries += [("DELETE", "/v1/routes/chat", b""), ("POST", "/v1/routes", GOOD.replace("v2", "v3").encode())]
    tries += [
        ("PUT", "/v1/routes/chat/spec", GOOD.encode()),
        ("POST", "/v1/tokens", b'{"name":"x","role":"admin"}'),
    ]
    tries += [("GET", "/v1/tokens", b""), ("DELETE", "/v1/tokens/000000000000", b"")]
    for method, path, body in tries:
        status, said, _ = await served.ask(method, path, token=token, data=body)
        assert status == 403, path
        assert "vera may not" in said["detail"]
    assert (await served.ask("GET", "/v1/routes/chat", token=token))[0] == 200
    assert served.engine.queries.view("chat") == before
    refused = [deed for deed in served.deeds() if deed[3] == "refused"]
    assert len(refused) == len(tries)
    assert {deed[0] for deed in refused} == {"vera"}


async def test_an_operator_touches_no_route_of_another_team(served: Served) -> None:
    await served.apply(spec("search", "/search/", team="search"))
    await served.apply(spec("ads", "/ads/", team="ads"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    assert (await served.ask("POST", "/v1/routes/search/abort", token=token, json={"reason": "slow"}))[
        0
    ] == 200
    for verb in COMMANDS:
        status, said, _ = await served.ask("POST", f"/v1/routes/ads/{verb}", token=token)
        assert (status, "team=ads" in said["detail"]) == (403, True)
    status, said, _ = await served.ask("GET", "/v1/routes", token=token)
    assert [view["name"] for view in said["routes"]] == ["search"]
    assert (await served.ask("GET", "/v1/routes/ads", token=token))[0] == 403
    # Nor may a route be taken over, given away, or made for somebody else.
    for text in (
        spec("ads", "/ads/", team="search"),
        spec("search", "/search/", team="ads"),
        spec("new", "/new/", team="ads"),
        spec("new", "/new/"),
    ):
        assert (await served.ask("POST", "/v1/routes", token=token, data=text))[0] == 403
    assert (await served.ask("POST", "/v1/routes", token=token, data=spec("new", "/new/", team="search")))[
        0
    ] == 200
    assert served.engine.queries.labels("ads") == {"team": "ads"}
    mine = (await served.ask("GET", "/v1/audit", token=token))[1]["entries"]
    assert {entry["route"] for entry in mine} == {"search", "new"}
    assert ("sam", "kill", "ads", "refused") in served.deeds()


async def test_whoever_holds_a_role_for_some_routes_sees_their_proxies_alone(served: Served) -> None:
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
        said = (await served.ask("GET", "/v1/proxies", token=token, params=params))[1]
        assert [proxy["id"] for proxy in said["proxies"]] == seen, (team, params)


async def test_an_operator_takes_no_requests_of_another_teams_route(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    await served.apply(spec("search", "/search/", team="search"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    for text in (
        spec("more", "/ads/v1/", team="search"),
        spec("search", "/ads/v1/", team="search"),
        spec("more", "/", team="search").replace("path:", "hosts: [ads.example.com], path:"),
    ):
        status, said, _ = await served.ask("POST", "/v1/routes", token=token, data=text)
        assert (status, "requests of route 'ads'" in said["detail"]) == (403, True), said
    assert ("sam", "apply", "more", "refused") in served.deeds()
    assert (await served.ask("POST", "/v1/routes", token=token, data=spec("more", "/", team="search")))[
        0
    ] == 200
    # What an admin of both let a team have stays theirs to change.
    await served.apply(spec("inner", "/ads/search/", team="search"))
    changed = spec("inner", "/ads/search/", team="search").replace("setWeight: 5", "setWeight: 7")
    assert (await served.ask("POST", "/v1/routes", token=token, data=changed))[0] == 200


async def test_deleting_takes_an_admin_of_the_route(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    operator, admin = served.token(Role.OPERATOR, team="ads"), served.token(Role.ADMIN, team="ads")
    assert (await served.ask("DELETE", "/v1/routes/ads", token=operator))[0] == 403
    assert (await served.ask("GET", "/v1/tokens", token=admin))[0] == 403, (
        "an admin of some routes is not one of all"
    )
    assert (await served.ask("DELETE", "/v1/routes/ads", token=admin))[0] == 200


async def test_tokens_are_made_used_and_end(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    body = {"name": "ci", "role": "operator", "routes": "team=search", "expires_in": 60}
    status, said, headers = await served.ask("POST", "/v1/tokens", token=admin, json=body)
    assert (status, headers["cache-control"]) == (200, "no-store")
    text, ident = said["text"], said["token"]["id"]
    who = (await served.ask("GET", "/v1/whoami", token=text))[1]
    assert (who["name"], who["grants"]) == ("ci", [{"role": "operator", "routes": {"team": "search"}}])
    listed = (await served.ask("GET", "/v1/tokens", token=admin))[1]
    assert text not in str(listed)
    assert next(one for one in listed["tokens"] if one["id"] == ident)["last_used_at"]
    assert (await served.ask("DELETE", f"/v1/tokens/{ident}", token=admin))[0] == 200
    assert (await served.ask("GET", "/v1/whoami", token=text))[0] == 401
    assert [d[1] for d in served.deeds()][-3:] == ["create-token", "revoke-token", "login"]


async def test_nothing_secret_is_kept(served: Served, tmp_path: Path) -> None:
    text = served.token(Role.ADMIN)
    assert (await served.ask("GET", "/v1/whoami", token=text))[0] == 200
    kept = b"".join(file.read_bytes() for file in list(tmp_path.glob("state.sqlite*")))  # noqa: ASYNC240
    assert text.encode() not in kept
    assert text.split("_", 2)[2].encode() not in kept


async def test_a_token_that_has_ended_says_so(served: Served) -> None:
    token = served.token(Role.ADMIN, life=-1)
    status, said, _ = await served.ask("GET", "/v1/routes", token=token)
    assert (status, "has ended" in said["detail"]) == (401, True)


async def test_wrong_secrets_are_counted_and_then_not_heard(served: Served) -> None:
    good, wrong = served.token(Role.VIEWER), "spt_000000000000_" + "A" * 43
    answers = [(await served.ask("GET", "/v1/routes", token=wrong))[0] for _ in range(15)]
    assert answers == [401] * 10 + [429] * 5
    status, _, headers = await served.ask("GET", "/v1/routes", token=wrong)
    assert (status, int(headers["retry-after"]) > 0) == (429, True)
    assert (await served.ask("GET", "/v1/routes", token=good))[0] == 200, "a right one still opens"
    tries = [deed for deed in served.deeds() if deed[1] == "login"]
    assert len(tries) == 10, "a flood does not fill the audit"
    assert tries[0][0] == "token 000000000000"


@pytest.mark.parametrize(
    ("scheme", "status"),
    [("Basic YTpi", 401), ("Bearer", 401), ("Bearer spt_nonsense", 401), ("Bearer \u00ff", 401), ("", 401)],
)
async def test_other_words_open_nothing(served: Served, scheme: str, status: int) -> None:
    headers = {"authorization": scheme} if scheme else {}
    assert (await served.ask("GET", "/v1/routes", headers=headers))[0] == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_page_of_another_site_can_change_nothing(client: Client, headers: dict[str, str]) -> None:
    async with client.post("/v1/routes", data=GOOD, headers=headers) as answer:
        assert answer.status == 403
    async with client.get("/v1/routes", headers={"host": "evil.example"}) as answer:
        assert answer.status == 421, "nor reach an open one by a name of its own"


async def test_the_first_run_shows_a_token_once(tmp_path: Path) -> None:
    async with serving(tmp_path, is_open=False) as served:
        now = time.time()
        text = first_token(served.access, now)
        assert text is not None
        assert first_token(served.access, now) is None, "once"
        body = {"name": "ada", "role": "operator"}
        assert (await served.ask("POST", "/v1/tokens", token=text, json=body))[0] == 200
        assert (await served.ask("GET", "/v1/whoami", token=text))[0] == 200
        body = {"name": "ada", "role": "admin"}
        assert (await served.ask("POST", "/v1/tokens", token=text, json=body))[0] == 200
        assert (await served.ask("GET", "/v1/whoami", token=text))[0] == 401, "another admin is there"
        assert first_token(served.access, now + 100_000) is None


async def test_a_first_token_nobody_used_in_time_is_followed_by_another(tmp_path: Path) -> None:
    async with serving(tmp_path, is_open=False) as served:
        now = time.time()
        first = first_token(served.access, now)
        assert first_token(served.access, now + 80_000) is None
        second = first_token(served.access, now + 90_000)
        assert second not in {None, first}
        assert [token.first for token in served.access.tokens()] == [True]


async def test_a_command_sent_twice_with_one_key_is_done_once(served: Served) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR)
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k-1"}, "json": {"reason": "why"}}
    first = await served.ask("POST", "/v1/routes/chat/pause", **send)
    assert first[0] == 200
    assert "idempotent-replayed" not in first[2]
    again = await served.ask("POST", "/v1/routes/chat/pause", **send)
    assert (again[0], again[2]["idempotent-replayed"]) == (200, "true")
    status, said, _ = await served.ask("POST", "/v1/routes/chat/resume", **send)
    assert (status, said["type"]) == (422, "urn:shiftplane:problem:key_reused")
    assert [d[1] for d in served.deeds()].count("pause") == 1
    other = served.token(Role.OPERATOR, "other")
    assert (await served.ask("POST", "/v1/routes/chat/resume", **{**send, "token": other}))[0] == 200


@pytest.mark.parametrize(
    ("header", "said", "actor"),
    [
        ("", "", "ada"),
        ("ada", "", "ada"),
        ("kim@desk", "kim@desk", "ada (as kim@desk)"),
        ("", "kim@desk", "ada (as kim@desk)"),
        ("", "da", "ada (as da)"),
    ],
)
async def test_who_is_at_the_keyboard_stands_beside_who_showed_the_token(
    served: Served, header: str, said: str, actor: str
) -> None:
    await served.apply(GOOD)
    token = served.token(Role.OPERATOR, "ada")
    headers = {"x-shiftplane-actor": header} if header else {}
    body = {"actor": said, "reason": "why"}
    await served.ask("POST", "/v1/routes/chat/abort", token=token, headers=headers, json=body)
    assert served.deeds()[-1][:2] == (actor, "abort")


async def test_any_tag_is_good_for_deleting(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    await served.apply(GOOD)
    status, _, _ = await served.ask("DELETE", "/v1/routes/chat", token=admin, headers={"if-match": "*"})
    assert status == 200


async def test_a_spec_sent_again_late_does_not_go_over_a_newer_one(served: Served) -> None:
    token = served.token(Role.OPERATOR)
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k-2"}, "data": GOOD}
    first = await served.ask("POST", "/v1/routes", **send)
    assert first[:2] == (
        200,
        {"applied": [{"name": "chat", "action": "created", "generation": 1}], "warnings": []},
    )
    await served.apply(GOOD.replace("setWeight: 5", "setWeight: 7"))
    again = await served.ask("POST", "/v1/routes", **send)
    assert again[:2] == first[:2]
    assert again[2]["idempotent-replayed"] == "true"
    assert "setWeight: 7" in served.engine.queries.spec_text("chat")
    status, said, _ = await served.ask("PUT", "/v1/routes/chat/spec", **send)
    assert (status, said["type"]) == (422, "urn:shiftplane:problem:key_reused")


async def test_a_spec_goes_in_only_over_the_one_that_was_read(served: Served) -> None:
    token = served.token(Role.OPERATOR)
    path = "/v1/routes/chat/spec"
    status, _, headers = await served.ask("PUT", path, token=token, data=GOOD, headers={"if-match": "*"})
    assert status == 412, "there is none yet"
    status, _, headers = await served.ask("PUT", path, token=token, data=GOOD)
    assert status == 200
    tag = headers["etag"]
    assert (await served.ask("GET", path, token=token))[2]["etag"] == tag
    changed = GOOD.replace("setWeight: 5", "setWeight: 7")
    status, _, headers = await served.ask("PUT", path, token=token, data=changed, headers={"if-match": tag})
    assert (status, headers["etag"] != tag) == (200, True)
    status, said, _ = await served.ask("PUT", path, token=token, data=GOOD, headers={"if-match": tag})
    assert (status, "changed in the meantime" in said["detail"]) == (412, True)
    admin = served.token(Role.ADMIN)
    assert (await served.ask("DELETE", "/v1/routes/chat", token=admin, headers={"if-match": tag}))[0] == 412
    two = GOOD + "---\n" + spec("other", "/other/")
    assert (await served.ask("PUT", path, token=token, data=two))[0] == 409


async def test_lists_are_read_in_pages(served: Served) -> None:
    token = served.token(Role.ADMIN)
    for name in "abcde":
        await served.apply(spec(name, f"/{name}/"))
    seen, after = [], ""
    while after is not None:
        said = (await served.ask("GET", "/v1/routes", token=token, params={"limit": 2, "after": after}))[1]
        seen += [view["name"] for view in said["routes"]]
        after = said["next"]
    assert seen == list("abcde")
    whole = (await served.ask("GET", "/v1/routes/a/events", token=token))[1]["events"]
    pages, before = [], {}
    while True:
        params = {"limit": 1, **before}
        said = (await served.ask("GET", "/v1/routes/a/events", token=token, params=params))[1]
        pages = said["events"] + pages
        if said["next"] is None:
            break
        before = {"before": said["next"]}
    assert pages == whole
    entries, before = [], {}
    while True:
        said = (await served.ask("GET", "/v1/audit", token=token, params={"limit": 2, **before}))[1]
        entries = said["entries"] + entries
        if said["next"] is None:
            break
        before = {"before": said["next"]}
    assert [entry["seq"] for entry in entries] == list(range(1, served.store.head().seq + 1))


async def test_what_nobody_knows_in_the_query_is_said(served: Served) -> None:
    status, said, _ = await served.ask("GET", "/v1/audit?limt=3", token=served.token(Role.VIEWER))
    assert (status, "limt" in said["detail"], "limit" in said["detail"]) == (400, True, True)


async def test_every_entry_of_the_audit_is_in_the_log_that_anchors_it(served: Served) -> None:
    with capture_logs() as logs:
        admin = served.token(Role.ADMIN)
        body = {"name": "ci", "role": "viewer"}
        assert (await served.ask("POST", "/v1/tokens", token=admin, json=body))[0] == 200
        async with served.client.post("/login", data={"token": admin}, allow_redirects=False) as answer:
            assert answer.status == 303
        await served.apply(GOOD + "---\n" + spec("other", "/other/"))
        assert (await served.ask("GET", "/v1/tokens", token="spt_wrong"))[0] == 401
    said = {(one["seq"], one["hash"]) for one in logs if one["event"] == "audited"}
    kept = served.store.audit(100)
    assert len(kept) == 6
    assert said == {(entry.seq, entry.hash) for entry in kept}


async def test_the_whole_audit_goes_out_and_is_checked(served: Served) -> None:
    admin = served.token(Role.ADMIN)
    for number in range(600):
        served.store.note(AuditEvent(at=1.0, actor="test", action="promote", detail=str(number)))
    headers = {"authorization": f"Bearer {admin}"}
    async with served.client.get("/v1/audit/export", headers=headers) as answer:
        entries = [entry_from_json(json.loads(line)) for line in (await answer.text()).splitlines()]
    assert tuple(entries) == served.store.audit(1_000)
    anchors = [("anchor", f"{one.seq}:{one.hash}") for one in entries]
    path = "/v1/audit/verify"
    status, said, _ = await served.ask("GET", path, token=admin, params=anchors[:90])
    assert (status, said) == (200, {"holds": True, "entries": 601, "breaks": []})
    wrong = ("anchor", f"601:{entries[0].hash}")
    status, said, _ = await served.ask("GET", path, token=admin, params=[*anchors[:90], wrong])
    assert (status, said["holds"]) == (200, False)
    status, said, _ = await served.ask("GET", path, token=admin, params=[*anchors[:100], wrong])
    assert (status, "100" in said["detail"]) == (400, True), "none is left out in silence"
