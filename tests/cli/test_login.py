"""Contexts and tokens: which control plane is meant, and what is shown to it and to no other."""

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

    from tests.cli.conftest import Canned, Run

WHO = {
    "name": "ada",
    "actor": "ada",
    "via": "token 1",
    "grants": [{"role": "operator", "routes": {"team": "a"}}],
}
EMPTY = (200, json.dumps({"routes": []}))


def test_a_login_is_kept_for_its_own_eyes_and_shown_to_its_server_alone(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/whoami"] = (200, json.dumps(WHO))
    canned.answers["GET /v1/routes"] = EMPTY
    said = run("login", "--server", canned.url, "--token-stdin", stdin="spt_secret\n")
    assert said.exit_code == 0, said.output
    assert "as ada: operator of team=a" in said.output
    assert "spt_secret" not in said.output
    assert stat.S_IMODE(path().stat().st_mode) == 0o600
    assert run("get").exit_code == 0, "the context in use is meant without a word"
    assert canned.headers[-1]["authorization"] == "Bearer spt_secret"
    other = canned.url.replace("127.0.0.1", "localhost")
    assert run("get", "--server", other).exit_code == 0
    assert "authorization" not in canned.headers[-1], "another server is a stranger"
    assert run("logout").exit_code == 0
    assert run("get").exit_code == 0
    assert "authorization" not in canned.headers[-1]


def test_a_token_that_opens_nothing_is_not_kept(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/whoami"] = (
        401,
        json.dumps({"title": "x", "detail": "this token is not known here"}),
    )
    said = run("login", "--server", canned.url, "--token-stdin", stdin="spt_x\n")
    assert said.exit_code == 1
    assert "not known here" in said.output
    assert not path().exists()


def test_tokens_of_the_environment_come_first(
    run: Run, canned: Canned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canned.answers["GET /v1/routes"] = EMPTY
    (tmp_path / "token").write_text("spt_file\n")
    monkeypatch.setenv("SHIFTPLANE_TOKEN_FILE", str(tmp_path / "token"))
    run("get", "--server", canned.url)
    assert canned.headers[-1]["authorization"] == "Bearer spt_file"
    monkeypatch.setenv("SHIFTPLANE_TOKEN", "spt_env")
    run("get", "--server", canned.url)
    assert canned.headers[-1]["authorization"] == "Bearer spt_env"


def test_contexts_are_set_used_listed_and_removed(run: Run, canned: Canned) -> None:
    assert "no contexts yet" in run("config", "list").output
    assert run("config", "set", "here", "--server", canned.url).exit_code == 0
    assert run("config", "set", "prod", "--server", "https://prod.example").exit_code == 0
    assert json.loads(run("config", "list", "-o", "json").stdout)["contexts"]["here"]["current"] is True
    assert run("config", "use", "prod").exit_code == 0
    assert "* prod" in run("config", "list").output
    assert run("config", "use", "nowhere").exit_code == 2
    assert "known: here, prod" in run("config", "use", "nowhere").output
    assert run("config", "remove", "prod").exit_code == 0
    assert run("config", "set", "bad", "--server", "prod.example").exit_code == 2


def test_a_token_does_not_move_to_another_server_with_its_context(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/whoami"] = (200, json.dumps(WHO))
    run("login", "--server", canned.url, "--name", "x", "--token-stdin", stdin="spt_secret\n")
    run("config", "set", "x", "--server", "http://elsewhere.example")
    assert "spt_secret" not in path().read_text()


def test_a_login_elsewhere_leaves_the_other_contexts_alone(run: Run, canned: Canned) -> None:
    canned.answers["GET /v1/whoami"] = (200, json.dumps(WHO))
    run("config", "set", "default", "--server", "https://prod.example")
    said = run("login", "--server", canned.url, "--token-stdin", stdin="spt_secret\n")
    assert said.exit_code == 0, said.output
    kept = json.loads(run("config", "list", "-o", "json").stdout)["contexts"]
    assert kept["default"] == {"server": "https://prod.example", "token": False, "current": False}
    name = canned.url.removeprefix("http://")
    assert kept[name] == {"server": canned.url, "token": True, "current": True}
    assert f"(context {name})" in said.output


@pytest.mark.parametrize(
    "text", ["[", "[1]", "contexts: {a: {}}", "contexts: {a: {server: 1}}", "current: 3"]
)
def test_a_file_that_is_none_says_what_is_allowed(run: Run, text: str) -> None:
    path().parent.mkdir(parents=True)
    path().write_text(text)
    said = run("get")
    assert said.exit_code == 1
    assert "is allowed" in said.output


def test_whoever_has_the_file_can_always_come_in_again(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    SqliteStore(file).close()
    said = run("token", "create", "ada", "--role", "admin", "--expires", "1h", "--store", str(file))
    assert said.exit_code == 0, said.output
    text = said.stdout.strip()
    assert text.startswith("spt_")
    store = SqliteStore(file)
    (entry,) = store.audit(10)
    assert (entry.event.action, entry.event.via) == ("create-token", "store")
    store.close()
    assert run("audit", "verify", "--store", str(file)).output == "the audit holds: 1 entries\n"


def test_a_token_made_in_the_store_is_like_any_other(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    SqliteStore(file).close()
    words = ("--role", "operator", "--routes", "team=a", "--store", str(file))
    said = run("token", "create", "ci\n", *words)
    assert (said.exit_code, "is no name of a token" in said.output) == (2, True)
    made = json.loads(run("token", "create", "ci", *words, "-o", "json").stdout)
    store = SqliteStore(file)
    (kept,) = AccessStore(store.file).tokens()
    store.close()
    assert made["token"] == token_to_json(kept)


def test_tokens_are_printed_once_and_alone(run: Run, canned: Canned) -> None:
    token = {"id": "0123456789ab", "name": "ci"}
    canned.answers["POST /v1/tokens"] = (200, json.dumps({"token": token, "text": "spt_new"}))
    words = ("token", "create", "ci", "--role", "operator", "--routes", "team=a", "--expires", "8w")
    said = run(*words, "--server", canned.url)
    assert said.stdout == "spt_new\n"
    assert json.loads(canned.asked[-1][1]) == {
        "name": "ci",
        "role": "operator",
        "routes": "team=a",
        "expires_in": 8 * 7 * 86_400,
    }
    assert run(*words[:-1], "forever", "--server", canned.url).exit_code == 2
    assert run(*words[:-1], "400d", "--server", canned.url).exit_code == 2


def test_an_audit_that_does_not_hold_ends_with_1(run: Run, canned: Canned) -> None:
    found = {"holds": False, "entries": 9, "breaks": [{"seq": 4, "words": "entry 4 was changed"}]}
    canned.answers["GET /v1/audit/verify"] = (200, json.dumps(found))
    said = run("audit", "verify", "--server", canned.url)
    assert said.exit_code == 1
    assert "entry 4 was changed" in said.output
    assert "does NOT hold" in said.output


def test_what_was_exported_can_be_checked_without_a_server(run: Run, tmp_path: Path) -> None:
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
    good = run("audit", "verify", "--export", str(out), "--anchor", f"{head.seq}:{head.hash}")
    assert good.exit_code == 0, good.output
    out.write_text("\n".join(lines[:-1]))
    assert run("audit", "verify", "--export", str(out), "--anchor", f"{head.seq}:{head.hash}").exit_code == 1
    out.write_text(lines[0] + "\nnonsense")
    assert f"{out}:2" in run("audit", "verify", "--export", str(out)).output
