"""Commands that ask a control plane: what they send, print and exit with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from demo.processes import free_port
from tests.support.plane import route

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Canned, Run

VIEW: dict[str, Any] = {
    "name": "chat",
    "group": "chat",
    "generation": 2,
    "revision": 5,
    "phase": "Progressing",
    "outcome": None,
    "message": "",
    "strategy": "canary",
    "stable": "v1",
    "candidate": "v2",
    "weights": {"v1": 95.0, "v2": 5.0},
    "mirror_percent": 0.0,
    "kill": None,
    "dead": [],
    "warm_until": None,
    "splits": {"strategy": [["v2", 500], ["v1", 9500]]},
    "steps": [
        {"index": 0, "kind": "setWeight", "weight": 5.0, "duration": None, "state": "done"},
        {"index": 1, "kind": "pause", "weight": None, "duration": None, "state": "current"},
    ],
    "step": {"index": 1, "kind": "pause", "began_at": 1e9, "ends_at": None, "waiting_for": "operator"},
    "convergence": {"connected": 2, "acked": 1, "nacked": 1, "version": "v", "detail": "envoy-2 refused it"},
    "pairs": None,
    "events": [
        {
            "seq": 1,
            "at": 1e9,
            "kind": "Accepted",
            "actor": "ada",
            "message": "spec accepted",
            "phase": "Pending",
            "generation": 1,
            "revision": 1,
            "weights": {"v2": 5.0},
        }
    ],
}
HELD = {**VIEW, "convergence": {**VIEW["convergence"], "acked": 2, "nacked": 0, "detail": ""}}
GOOD = route(("v1", "127.0.0.1:9001"))


@pytest.mark.parametrize(
    "words",
    [
        ("get",),
        ("describe", "chat"),
        ("watch", "chat"),
        ("promote", "chat"),
        ("pause", "chat"),
        ("resume", "chat"),
        ("abort", "chat"),
        ("undo", "chat"),
        ("retry", "chat"),
        ("kill", "chat", "-m", "why"),
        ("unkill", "chat"),
        ("history", "chat"),
        ("audit",),
        ("audit", "verify"),
        ("status", "chat"),
        ("whoami",),
        ("token", "list"),
        ("token", "revoke", "000000000000"),
        ("proxies",),
        ("delete", "--yes", "chat"),
    ],
)
def test_a_control_plane_that_is_away(run: Run, words: tuple[str, ...]) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    result = run(*words, "--server", server)
    assert result.exit_code == 3
    assert f"no control plane at {server}" in result.output
    assert "--server or SHIFTPLANE_SERVER" in result.output


def test_an_answer_that_is_not_ours(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes"] = (200, "<html>some other program</html>")
    result = run("get", "--server", canned.url)
    assert result.exit_code == 3
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_get_and_describe(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes"] = (200, json.dumps({"routes": [VIEW]}))
    canned.answers["GET /v1/routes/chat"] = (200, json.dumps(VIEW))
    assert json.loads(run("get", "-o", "json", "--server", canned.url).stdout) == {"routes": [VIEW]}
    assert json.loads(run("describe", "chat", "-o", "json", "--server", canned.url).stdout) == VIEW
    table = run("get", "--server", canned.url).output
    assert "chat" in table
    assert "Progressing" in table
    page = run("describe", "chat", "--server", canned.url).output
    for words in ("5 %", "envoy-2 refused it", "spec accepted", "ada"):
        assert words in page
    assert "\x1b[" not in table + page, "colours only in a terminal"


def test_no_routes_yet(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes"] = (200, '{"routes": []}')
    assert "no routes yet" in run("get", "--server", canned.url).output


def test_a_route_that_is_not_there(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes/chta"] = (404, '{"error": "unknown_route", "detail": "routes: chat"}')
    result = run("describe", "chta", "--server", canned.url)
    assert result.exit_code == 1
    assert "routes: chat" in result.output


def test_watch_ends_with_the_rollout(run: Run, canned: Canned) -> None:
    for phase, code in (("Healthy", 0), ("RolledBack", 1)):
        canned.answers["GET /v1/routes/chat"] = (200, json.dumps({**VIEW, "phase": phase}))
        result = run("watch", "chat", "--until-done", "--interval", "0.1", "--server", canned.url)
        assert result.exit_code == code
        assert f"{phase} v1=95% v2=5% proxies=1/2" in result.output


def test_watch_once_is_one_picture(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes/chat"] = (200, json.dumps(VIEW))
    assert "waits for an operator" in run("watch", "chat", "--once", "--server", canned.url).output


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "abort", "undo", "retry", "kill", "unkill"])
def test_an_action_carries_who_and_why(run: Run, canned: Canned, verb: str) -> None:
    canned.answers[f"POST /v1/routes/chat/{verb}"] = (200, json.dumps(HELD))
    assert run(verb, "chat", "-m", "a reason", "--server", canned.url).exit_code == 0
    _, body = canned.asked[-1]
    assert json.loads(body).items() >= {"actor": "tester", "reason": "a reason"}.items()


def test_a_kill_waits_until_proxies_hold_it(run: Run, canned: Canned) -> None:
    canned.answers["POST /v1/routes/chat/kill"] = (200, json.dumps(VIEW))
    kill = {"serve": "v1", "actor": "ada", "reason": "v2 leaks", "at": 1e9, "by_spec": False}
    canned.answers["GET /v1/routes/chat"] = (200, json.dumps({**HELD, "phase": "Killed", "kill": kill}))
    said = run("kill", "chat", "-m", "v2 leaks", "--server", canned.url).output
    assert "by ada: v2 leaks" in said
    assert "stands still: shiftplane unkill chat" in said


def test_undo_to_a_generation(run: Run, canned: Canned) -> None:
    canned.answers["POST /v1/routes/chat/undo"] = (200, json.dumps(HELD))
    assert run("undo", "chat", "--to", "3", "--server", canned.url).exit_code == 0
    assert json.loads(canned.asked[-1][1])["to"] == 3
    assert run("undo", "chat", "--to", "0", "--server", canned.url).exit_code == 2


def test_history_and_audit_are_tables_and_data(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes/chat/events?limit=50"] = (200, json.dumps({"events": VIEW["events"]}))
    line = run("history", "chat", "--server", canned.url).output.splitlines()[1]
    for words in ("ada", "Accepted", "Pending", "v2 5 %", "spec accepted"):
        assert words in line
    entry = {
        "seq": 1,
        "at": 1e9,
        "route": "chat",
        "actor": "ada",
        "action": "kill",
        "reason": "v2 leaks",
        "outcome": "refused",
        "detail": "ada may not",
    }
    canned.answers["GET /v1/audit?limit=50"] = (200, json.dumps({"entries": [entry]}))
    canned.answers["GET /v1/audit?limit=2&route=chat"] = (200, json.dumps({"entries": [entry]}))
    for verb in (("audit",), ("audit", "list")):
        said = run(*verb, "--server", canned.url).output
        assert "v2 leaks" in said
        assert "refused: ada may not" in said
    found = run("audit", "chat", "-n", "2", "-o", "json", "--server", canned.url)
    assert json.loads(found.stdout) == {"entries": [entry]}


def test_what_others_wrote_is_printed_as_it_is(run: Run, canned: Canned) -> None:
    words = "see [/incident] [red]42[/red] :tada:"
    events = [{**event, "message": words} for event in VIEW["events"]]
    canned.answers["GET /v1/routes/chat/events?limit=50"] = (200, json.dumps({"events": events}))
    canned.answers["GET /v1/routes"] = (200, json.dumps({"routes": [{**VIEW, "message": words}]}))
    for verb in (("history", "chat"), ("get",)):
        said = run(*verb, "--server", canned.url)
        assert (said.exit_code, words in said.output) == (0, True), said.output


def test_an_action_that_is_refused(run: Run, canned: Canned) -> None:
    canned.answers["POST /v1/routes/chat/promote"] = (409, '{"error": "refused", "detail": "it is Healthy"}')
    result = run("promote", "chat", "--server", canned.url)
    assert result.exit_code == 1
    assert "it is Healthy" in result.output


def test_apply_says_what_became_of_each_route(run: Run, canned: Canned, tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(GOOD)
    applied = {"applied": [{"name": "chat", "action": "created", "generation": 1}], "warnings": []}
    canned.answers["POST /v1/routes"] = canned.answers["POST /v1/routes?dryRun=true"] = (
        200,
        json.dumps(applied),
    )
    assert run("apply", str(path), "--server", canned.url).output == "route chat created\n"
    assert "(dry run)" in run("apply", "--dry-run", str(path), "--server", canned.url).output
    assert [asked for asked, _ in canned.asked] == ["POST /v1/routes", "POST /v1/routes?dryRun=true"]


def test_apply_sends_nothing_while_one_file_is_wrong(run: Run, canned: Canned, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(
        GOOD.replace("name: chat", "name: two").replace("stable: v1", "stable: x")
    )
    result = run("apply", str(tmp_path), "--server", canned.url)
    assert result.exit_code == 1
    assert "there is no backend 'x'" in result.output
    assert "nothing was applied" in result.output
    assert not canned.asked


def test_apply_prints_every_problem_the_server_finds(run: Run, canned: Canned, tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(GOOD)
    problems = [
        {
            "severity": "error",
            "file": "chat.yaml",
            "line": line,
            "col": 1,
            "path": "spec",
            "message": f"wrong {line}",
            "allowed": "right",
        }
        for line in (3, 4)
    ]
    canned.answers["POST /v1/routes"] = (422, json.dumps({"problems": problems}))
    result = run("apply", str(path), "--server", canned.url)
    assert result.exit_code == 1
    assert "chat.yaml:3:1: spec: wrong 3; right" in result.output
    assert "wrong 4" in result.output


def test_delete_asks_first(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/routes/chat"] = (200, json.dumps(VIEW))
    canned.answers["DELETE /v1/routes/chat"] = (200, '{"deleted": "chat"}')
    assert run("delete", "chat", "--server", canned.url, stdin="n\n").exit_code == 1
    assert [asked for asked, _ in canned.asked] == ["GET /v1/routes/chat"]
    assert run("delete", "chat", "--server", canned.url, stdin="y\n").exit_code == 0
    assert canned.asked[-1][0] == "DELETE /v1/routes/chat"
