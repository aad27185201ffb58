"""Contexts and tokens: the selected control plane, and the tokens that it receives."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from xds_server.access.audit import entry_to_json
from xds_server.access.identity import token_to_json
from xds_server.cli.contexts import path
from xds_server.store import AccessStore, SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import FakeControlPlane, Run

CALLER = {
    "name": "ada",
    "actor": "ada",
    "via": "token 1",
    "grants": [{"role": "operator", "routes": {"team": "a"}}],
}
EMPTY = (200, json.dumps({"routes": []}))


def test_a_login_is_stored_privately_and_sent_to_its_server_only(
    run: Run, control_plane: FakeControlPlane
) -> None:
    control_plane.responses["GET /v1/whoami"] = (200, json.dumps(CALLER))
    control_plane.responses["GET /v1/routes"] = EMPTY
    result = run("login", "--server", control_plane.url, "--token-stdin", stdin="spt_secret\n")
    assert result.exit_code == 0, result.output
    assert "as ada: operator of routes with team=a" in result.output
    assert "spt_secret" not in result.output
    assert stat.S_IMODE(path().stat().st_mode) == 0o600
    assert run("get").exit_code == 0, "the current context is the default"
    assert control_plane.headers[-1]["authorization"] == "Bearer spt_secret"
    other = control_plane.url.replace("127.0.0.1", "localhost")
    assert run("get", "--server", other).exit_code == 0
    assert "authorization" not in control_plane.headers[-1], "another server does not receive the token"
    assert run("logout").exit_code == 0
    assert run("get").exit_code == 0
    assert "authorization" not in control_plane.headers[-1]


def test_an_invalid_token_is_not_stored(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/whoami"] = (
        401,
        json.dumps({"title": "x", "detail": "this token is not known here"}),
    )
    result = run("login", "--server", control_plane.url, "--token-stdin", stdin="spt_x\n")
    assert result.exit_code == 1
    assert "not known here" in result.output
    assert not path().exists()


def test_a_login_to_another_program_stores_nothing(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/whoami"] = (200, json.dumps({**CALLER, "grants": None}))
    result = run("login", "--server", control_plane.url, "--token-stdin", stdin="spt_x\n")
    assert result.exit_code == 1
    assert "not from a control plane" in result.output
    assert not path().exists()


def test_an_unknown_context_is_reported_with_its_origin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("config", "set", "here", "--server", "http://127.0.0.1:1")
    path().write_text(path().read_text().replace("current: here", "current: gone"))
    found = run("get").output
    assert "the current context 'gone' is not defined" in found
    assert "shiftplane config use NAME" in found
    monkeypatch.setenv("SHIFTPLANE_CONTEXT", "prod")
    assert "unknown context 'prod' in SHIFTPLANE_CONTEXT; defined contexts: here" in run("get").output


def test_tokens_of_the_environment_take_precedence(
    run: Run, control_plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    control_plane.responses["GET /v1/routes"] = EMPTY
    (tmp_path / "token").write_text("spt_file\n")
    monkeypatch.setenv("SHIFTPLANE_TOKEN_FILE", str(tmp_path / "token"))
    run("get", "--server", control_plane.url)
    assert control_plane.headers[-1]["authorization"] == "Bearer spt_file"
    monkeypatch.setenv("SHIFTPLANE_TOKEN", "spt_env")
    run("get", "--server", control_plane.url)
    assert control_plane.headers[-1]["authorization"] == "Bearer spt_env"


def test_contexts_are_set_used_listed_and_removed(run: Run, control_plane: FakeControlPlane) -> None:
    assert "no contexts;" in run("config", "list").output
    assert run("config", "set", "here", "--server", control_plane.url).exit_code == 0
    assert run("config", "set", "prod", "--server", "https://prod.example").exit_code == 0
    assert json.loads(run("config", "list", "-o", "json").stdout)["contexts"]["here"]["current"] is True
    assert run("config", "use", "prod").exit_code == 0
    assert "* prod" in run("config", "list").output
    assert run("config", "use", "nowhere").exit_code == 2
    assert "defined contexts: here, prod" in run("config", "use", "nowhere").output
    assert run("config", "remove", "prod").exit_code == 0
    assert run("config", "set", "bad", "--server", "prod.example").exit_code == 2


def test_a_context_with_another_server_loses_its_token(run: Run, control_plane: FakeControlPlane) -> None:
    control_plane.responses["GET /v1/whoami"] = (200, json.dumps(CALLER))
    run("login", "--server", control_plane.url, "--name", "x", "--token-stdin", stdin="spt_secret\n")
    run("config", "set", "x", "--server", "http://elsewhere.example")
    assert "spt_secret" not in path().read_text()


def test_a_login_to_another_server_keeps_the_other_contexts(
    run: Run, control_plane: FakeControlPlane
) -> None:
    control_plane.responses["GET /v1/whoami"] = (200, json.dumps(CALLER))
    run("config", "set", "default", "--server", "https://prod.example")
    result = run("login", "--server", control_plane.url, "--token-stdin", stdin="spt_secret\n")
    assert result.exit_code == 0, result.output
    contexts = json.loads(run("config", "list", "-o", "json").stdout)["contexts"]
    assert contexts["default"] == {"server": "https://prod.example", "token": False, "current": False}
    name = control_plane.url.removeprefix("http://")
    assert contexts[name] == {"server": control_plane.url, "token": True, "current": True}
    assert f"(context {name})" in result.output


@pytest.mark.parametrize(
    "text", ["[", "[1]", "contexts: {a: {}}", "contexts: {a: {server: 1}}", "current: 3"]
)
def test_an_invalid_contexts_file_is_reported_with_the_expected_format(run: Run, text: str) -> None:
    path().parent.mkdir(parents=True)
    path().write_text(text)
    result = run("get")
    assert result.exit_code == 1
    assert "expected {current: NAME" in result.output


def test_a_token_can_be_created_in_the_store_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    SqliteStore(file).close()
    result = run("token", "create", "ada", "--role", "admin", "--expires", "1h", "--store", str(file))
    assert result.exit_code == 0, result.output
    text = result.stdout.strip()
    assert text.startswith("spt_")
    store = SqliteStore(file)
    (entry,) = store.audit(10)
    assert (entry.event.action, entry.event.via) == ("create-token", "store")
    store.close()
    assert run("audit", "verify", "--store", str(file)).output == "audit log verified: 1 entries\n"


def test_a_token_created_in_the_store_equals_others(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    SqliteStore(file).close()
    args = ("--role", "operator", "--routes", "team=a", "--store", str(file))
    result = run("token", "create", "ci\n", *args)
    assert (result.exit_code, "is not a valid token name" in result.output) == (2, True)
    created = json.loads(run("token", "create", "ci", *args, "-o", "json").stdout)
    store = SqliteStore(file)
    (stored,) = AccessStore(store.file).tokens()
    store.close()
    assert created["token"] == token_to_json(stored)


def test_only_the_token_is_printed_to_stdout(run: Run, control_plane: FakeControlPlane) -> None:
    token = {"id": "0123456789ab", "name": "ci"}
    control_plane.responses["POST /v1/tokens"] = (200, json.dumps({"token": token, "text": "spt_new"}))
    args = ("token", "create", "ci", "--role", "operator", "--routes", "team=a", "--expires", "8w")
    result = run(*args, "--server", control_plane.url)
    assert result.stdout == "spt_new\n"
    assert json.loads(control_plane.requests[-1][1]) == {
        "name": "ci",
        "role": "operator",
        "routes": "team=a",
        "expires_in": 8 * 7 * 86_400,
    }
    assert run(*args[:-1], "forever", "--server", control_plane.url).exit_code == 2
    assert run(*args[:-1], "400d", "--server", control_plane.url).exit_code == 2


def test_an_invalid_audit_log_exits_with_1(run: Run, control_plane: FakeControlPlane) -> None:
    verification = {"holds": False, "entries": 9, "breaks": [{"seq": 4, "words": "entry 4 was changed"}]}
    control_plane.responses["GET /v1/audit/verify"] = (200, json.dumps(verification))
    result = run("audit", "verify", "--server", control_plane.url)
    assert result.exit_code == 1
    assert "entry 4 was changed" in result.output
    assert "audit log NOT valid" in result.output


def test_an_export_can_be_verified_without_a_server(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    SqliteStore(file).close()
    for name in ("a", "b", "c"):
        run("token", "create", name, "--role", "viewer", "--store", str(file))
    store = SqliteStore(file)
    lines = [json.dumps(entry_to_json(entry)) for entry in store.audit_following(0, 1_000, 1_000)]
    head = store.head()
    store.close()
    out = tmp_path / "audit.jsonl"
    out.write_text("\n".join(lines))
    checkpoint = f"{head.seq}:{head.hash}"
    valid = run("audit", "verify", "--export", str(out), "--checkpoint", checkpoint)
    assert valid.exit_code == 0, valid.output
    alias = run("audit", "verify", "--export", str(out), "--anchor", checkpoint)
    assert alias.exit_code == 0, alias.output
    assert alias.stderr == "option '--anchor' is deprecated; use '--checkpoint'\n"
    out.write_text("\n".join(lines[:-1]))
    assert run("audit", "verify", "--export", str(out), "--checkpoint", checkpoint).exit_code == 1
    out.write_text(lines[0] + "\nnonsense")
    assert f"{out}:2" in run("audit", "verify", "--export", str(out)).output
    for changed in ({"outcome": "unknown"}, {"extra": 1}):
        out.write_text(json.dumps({**json.loads(lines[0]), **changed}))
        assert (
            "a field is unknown, is missing or has an invalid value"
            in run("audit", "verify", "--export", str(out)).output
        )
    out.write_bytes(b'{"seq": "\xff"}')
    binary = run("audit", "verify", "--export", str(out))
    assert (binary.exit_code, binary.exception.__class__) == (1, SystemExit)
    assert f"{out}: not UTF-8 text (byte 9)" in binary.output
