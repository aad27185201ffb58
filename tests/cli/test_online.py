"""Commands that use a control plane: their requests, output and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from demo.processes import free_port
from tests.support.plane import route
from xds_server.cli.render import waiting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import FakeControlPlane, Run

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
    "convergence": {"connected": 2, "acked": 1, "nacked": 1, "version": "v", "detail": "envoy-2 rejected it"},
    "pairs": None,
    "events": [
        {
            "seq": 1,
            "at": 1e9,
            "kind": "accepted",
            "actor": "ada",
            "message": "spec accepted",
            "phase": "Pending",
            "generation": 1,
            "revision": 1,
            "weights": {"v2": 5.0},
        }
    ],
}
SYNCED = {**VIEW, "convergence": {**VIEW["convergence"], "acked": 2, "nacked": 0, "detail": ""}}
GOOD = route(("v1", "127.0.0.1:9001"))


@pytest.mark.parametrize(
    "args",
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
def test_an_unreachable_control_plane_exits_with_3(run: Run, args: tuple[str, ...]) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    result = run(*args, "--server", server)
    assert result.exit_code == 3
    assert f"no response from a control plane at {server}" in result.output
    assert "--server or SHIFTPLANE_SERVER" in result.output


def test_a_response_of_another_program_exits_with_3(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes"] = (200, "<html>some other program</html>")
    result = run("get", "--server", control_plane.url)
    assert result.exit_code == 3
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_get_and_describe_print_tables_and_json(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes"] = (200, json.dumps({"routes": [VIEW]}))
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps(VIEW))
    assert json.loads(run("get", "-o", "json", "--server", control_plane.url).stdout) == {"routes": [VIEW]}
    assert json.loads(run("describe", "chat", "-o", "json", "--server", control_plane.url).stdout) == VIEW
    table = run("get", "--server", control_plane.url).output
    assert "chat" in table
    assert "Progressing" in table
    page = run("describe", "chat", "--server", control_plane.url).output
    for args in ("5 %", "envoy-2 rejected it", "rollout started", "spec accepted", "ada"):
        assert args in page
    assert "\x1b[" not in table + page, "colors only in a terminal"


def words(box: str) -> str:
    """Return the text of a box without its borders and line breaks."""
    return " ".join(box.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def equivalence(*apis: dict[str, Any]) -> dict[str, Any]:
    """Return a verdict as the server sends it."""
    return {
        "verdict": "Inconclusive",
        "words": "too few",
        "pairs": 9_000,
        "trios": 2_000,
        "limited": 0,
        **({"apis": list(apis)} if apis else {}),
    }


def test_describe_shows_which_answers_were_read(run: Run, control_plane: FakeControlPlane) -> None:
    common = {
        "counted": 4_000,
        "failed": 0,
        "unread_legs": {},
        "required": True,
        "blind": False,
        "share": 0.9,
    }
    chat = {**common, "api": "chat", "read": 3_990, "failed": 10}
    unread = {"shadow": {"unknown_format": 7}, "noise": {"truncated": 1}}
    rerank = {
        **common,
        "api": "rerank",
        "read": 3_993,
        "unread_legs": unread,
        "share": 0.01,
        "required": False,
    }
    shown = {**VIEW, "equivalence": equivalence(chat, rerank)}
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps(shown))
    page = words(run("describe", "chat", "--server", control_plane.url).output)
    assert "chat: 3,990 of 4,000 pairs were read, 10 had a failed answer" in page
    assert (
        "rerank: 3,993 of 4,000 pairs were read; not required for the verdict, with 1.0 % of the copies; "
        "unread answers: shadow unknown format 7, noise truncated 1"
    ) in page


def test_describe_names_collectors_that_report_no_apis(run: Run, control_plane: FakeControlPlane) -> None:
    unknown = {"api": "unknown", "blind": False}
    for found, named in ((equivalence(unknown), True), (equivalence(), False)):
        control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps({**VIEW, "equivalence": found}))
        page = words(run("describe", "chat", "--server", control_plane.url).output)
        assert ("the collector is of an earlier release" in page) is named
        assert "Inconclusive" in page


def test_describe_shows_how_steps_without_a_duration_end(run: Run, control_plane: FakeControlPlane) -> None:
    shadow = {"index": 0, "kind": "shadow", "weight": 10.0, "duration": None, "state": "done"}
    agreement = {"exact": {"same": 3, "of": 4}}
    shown = {
        **VIEW,
        "phase": "Paused",
        "steps": [shadow, VIEW["steps"][1]],
        "pairs": {"pairs": 4, "agreement": agreement},
    }
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps(shown))
    page = words(run("describe", "chat", "--server", control_plane.url).output)
    assert "shadow 10 %, no time limit" in page
    assert "pause, no time limit" in page
    assert "4 pairs · same answer 75.0 %" in page
    assert 'waiting for "shiftplane resume chat" or "shiftplane promote chat"' in page


def test_get_without_routes(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes"] = (200, '{"routes": []}')
    assert "no routes;" in run("get", "--server", control_plane.url).output


def test_describe_of_an_unknown_route_exits_with_1(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes/chta"] = (
        404,
        '{"error": "unknown_route", "detail": "routes: chat"}',
    )
    result = run("describe", "chta", "--server", control_plane.url)
    assert result.exit_code == 1
    assert "routes: chat" in result.output


def test_watch_ends_with_the_rollout(run: Run, control_plane: FakeControlPlane) -> None:
    for phase, code in (("Healthy", 0), ("RolledBack", 1)):
        control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps({**VIEW, "phase": phase}))
        result = run("watch", "chat", "--until-done", "--interval", "0.1", "--server", control_plane.url)
        assert result.exit_code == code
        assert f"{phase} v1=95% v2=5% proxies=1/2" in result.output


def test_watch_once_prints_the_current_state(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps(VIEW))
    assert "waiting for an operator" in run("watch", "chat", "--once", "--server", control_plane.url).output


@pytest.mark.parametrize(
    "command", ["promote", "pause", "resume", "abort", "undo", "retry", "kill", "unkill"]
)
def test_an_action_sends_actor_and_reason(run: Run, control_plane: FakeControlPlane, command: str) -> None:
    control_plane.responses[f"POST /v1/routes/chat/{command}"] = (200, json.dumps(SYNCED))
    assert run(command, "chat", "-m", "a reason", "--server", control_plane.url).exit_code == 0
    _, body = control_plane.requests[-1]
    assert json.loads(body).items() >= {"actor": "tester", "reason": "a reason"}.items()


def test_a_kill_waits_for_convergence(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["POST /v1/routes/chat/kill"] = (200, json.dumps(VIEW))
    kill = {"serve": "v1", "actor": "ada", "reason": "v2 leaks", "at": 1e9, "by_spec": False}
    control_plane.responses["GET /v1/routes/chat"] = (
        200,
        json.dumps({**SYNCED, "phase": "Killed", "kill": kill}),
    )
    output = run("kill", "chat", "-m", "v2 leaks", "--server", control_plane.url).output
    assert "by ada: v2 leaks" in output
    assert 'stopped by the kill switch; "shiftplane unkill chat" turns it off' in output
    view = {"name": "chat", "step": {"waiting_for": "operator"}, "kill": kill | {"by_spec": True}}
    assert waiting(view, 1e9).endswith("killSwitch.enabled: false in the spec turns it off")


def test_undo_to_a_generation(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["POST /v1/routes/chat/undo"] = (200, json.dumps(SYNCED))
    assert run("undo", "chat", "--to", "3", "--server", control_plane.url).exit_code == 0
    assert json.loads(control_plane.requests[-1][1])["to"] == 3
    assert run("undo", "chat", "--to", "0", "--server", control_plane.url).exit_code == 2


def test_history_and_audit_print_tables_and_json(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes/chat/events?limit=50"] = (
        200,
        json.dumps({"events": VIEW["events"]}),
    )
    line = run("history", "chat", "--server", control_plane.url).output.splitlines()[1]
    for args in ("ada", "accepted", "Pending", "v2 5 %", "spec accepted"):
        assert args in line
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
    control_plane.responses["GET /v1/audit?limit=50"] = (200, json.dumps({"entries": [entry]}))
    control_plane.responses["GET /v1/audit?limit=2&route=chat"] = (200, json.dumps({"entries": [entry]}))
    for command in (("audit",), ("audit", "list")):
        output = run(*command, "--server", control_plane.url).output
        assert "v2 leaks" in output
        assert "refused: ada may not" in output
    found = run("audit", "chat", "-n", "2", "-o", "json", "--server", control_plane.url)
    assert json.loads(found.stdout) == {"entries": [entry]}


def test_foreign_text_is_printed_unchanged(run: Run, control_plane: FakeControlPlane) -> None:
    text = "see [/incident] [red]42[/red] :tada:"
    events = [{**event, "message": text} for event in VIEW["events"]]
    control_plane.responses["GET /v1/routes/chat/events?limit=50"] = (200, json.dumps({"events": events}))
    control_plane.responses["GET /v1/routes"] = (200, json.dumps({"routes": [{**VIEW, "message": text}]}))
    for command in (("history", "chat"), ("get",)):
        result = run(*command, "--server", control_plane.url)
        assert (result.exit_code, text in result.output) == (0, True), result.output


def test_a_rejected_action_exits_with_1(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["POST /v1/routes/chat/promote"] = (
        409,
        '{"error": "refused", "detail": "it is Healthy"}',
    )
    result = run("promote", "chat", "--server", control_plane.url)
    assert result.exit_code == 1
    assert "it is Healthy" in result.output


def test_apply_prints_the_result_of_each_route(
    run: Run, control_plane: FakeControlPlane, tmp_path: Path
) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(GOOD)
    applied = {"applied": [{"name": "chat", "action": "created", "generation": 1}], "warnings": []}
    control_plane.responses["POST /v1/routes"] = control_plane.responses["POST /v1/routes?dryRun=true"] = (
        200,
        json.dumps(applied),
    )
    assert run("apply", str(path), "--server", control_plane.url).output == "route chat created\n"
    assert "(dry run)" in run("apply", "--dry-run", str(path), "--server", control_plane.url).output
    assert [request for request, _ in control_plane.requests] == [
        "POST /v1/routes",
        "POST /v1/routes?dryRun=true",
    ]


def test_apply_sends_nothing_if_a_file_is_invalid(
    run: Run, control_plane: FakeControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(
        GOOD.replace("name: chat", "name: two").replace("stable: v1", "stable: x")
    )
    result = run("apply", str(tmp_path), "--server", control_plane.url)
    assert result.exit_code == 1
    assert "unknown backend 'x'" in result.output
    assert "nothing was applied" in result.output
    assert not control_plane.requests


def test_apply_prints_every_problem_the_server_finds(
    run: Run, control_plane: FakeControlPlane, tmp_path: Path
) -> None:
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
    control_plane.responses["POST /v1/routes"] = (422, json.dumps({"problems": problems}))
    result = run("apply", str(path), "--server", control_plane.url)
    assert result.exit_code == 1
    assert "chat.yaml:3:1: spec: wrong 3; right" in result.output
    assert "wrong 4" in result.output


def test_apply_prints_problems_of_the_server_with_the_file_that_contains_them(
    run: Run, control_plane: FakeControlPlane, tmp_path: Path
) -> None:
    one, two = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_text(f"# the first route\n{GOOD}")
    two.write_text("# the second\n# route\n" + GOOD.replace("chat", "other"))
    first = GOOD.rstrip().count("\n") + 1
    found = {"severity": "error", "file": "sent", "col": 1, "path": "spec", "allowed": "right"}
    problems = [
        {**found, "line": 3, "message": "wrong in the first"},
        {**found, "line": first + 2 + 4, "message": "wrong in the second"},
    ]
    control_plane.responses["POST /v1/routes"] = (422, json.dumps({"problems": problems}))
    result = run("apply", str(one), str(two), "--server", control_plane.url)
    assert f"{one}:4:1: spec: wrong in the first" in result.output
    assert f"{two}:6:1: spec: wrong in the second" in result.output


def test_delete_prompts_for_confirmation(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps(VIEW))
    control_plane.responses["DELETE /v1/routes/chat"] = (200, '{"deleted": "chat"}')
    assert run("delete", "chat", "--server", control_plane.url, stdin="n\n").exit_code == 1
    assert [request for request, _ in control_plane.requests] == ["GET /v1/routes/chat"]
    assert run("delete", "chat", "--server", control_plane.url, stdin="y\n").exit_code == 0
    assert control_plane.requests[-1][0] == "DELETE /v1/routes/chat"
