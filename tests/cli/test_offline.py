"""Commands without a server (lint, plan, diff, bootstrap), and the help of all commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.plane import route
from xds_server.cli import _COMMANDS

if TYPE_CHECKING:
    from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
BAD = sorted((ROOT / "tests" / "golden" / "bad_specs").glob("*.yaml"))
CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
GOOD = route(("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002"), CANARY)


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_help_has_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(r"Example:\s+(shiftplane|make)", result.output), result.output
    without_data = {"watch", "demo", "serve", "bootstrap", "delete", "init", "login", "logout", "completion"}
    groups = {"audit", "config", "notify", "token"}
    assert command in without_data | groups or "--output" in result.output, (
        "commands that print data have -o json"
    )


def test_the_help_lists_all_commands(run: Run) -> None:
    result = run("--help")
    assert all(re.search(rf"^\s+{command} ", result.output, re.MULTILINE) for command in _COMMANDS)


def test_a_mistyped_command_gets_a_suggestion(run: Run) -> None:
    result = run("wacth", "chat")
    assert result.exit_code == 2
    assert "unknown command 'wacth'; did you mean 'watch'?" in result.output


def test_lint_accepts_valid_specs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(GOOD)
    assert run("lint", str(tmp_path)).exit_code == 0
    result = run("lint", "-", "-o", "json", stdin=GOOD)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"routes": 1, "errors": 0, "problems": []}


def test_lint_prints_all_problems_with_their_positions(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(GOOD.replace("stable: v1", "stable: v9").replace("setWeight: 5", "setWeight: 500"))
    text, data = run("lint", str(path)), run("lint", "-o", "json", str(path))
    assert text.exit_code == data.exit_code == 1
    problems = json.loads(data.stdout)["problems"]
    assert len(problems) == 2
    for problem in problems:
        assert f"{path}:{problem['line']}:{problem['col']}: {problem['path']}: " in text.stdout
        assert problem["message"] in text.stdout
        assert problem["allowed"]


def test_lint_strict_fails_on_warnings(run: Run) -> None:
    unused = GOOD.replace("candidate: v2", "").replace(f"strategy: {CANARY}", "")
    assert run("lint", "-", stdin=unused).exit_code == 0
    assert run("lint", "--strict", "-", stdin=unused).exit_code == 1


def test_lint_reports_unreadable_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "absent.yaml", "No such file"),
        (tmp_path / "binary.yaml", "not UTF-8 text (byte 0)"),
    ):
        result = run("lint", str(path))
        assert result.exit_code == 1
        assert message in result.output
    (tmp_path / "empty").mkdir()
    assert "contains no *.yaml" in run("lint", str(tmp_path / "empty")).output


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_bad_spec_fails_lint(run: Run, path: Path) -> None:
    result = run("lint", "--strict", str(path))
    assert result.exit_code == 1
    assert str(path) in result.output


def test_plan_shows_the_steps(run: Run) -> None:
    text = run("plan", "-", stdin=GOOD)
    assert text.exit_code == 0
    assert "1. weight 5 % (500 of 10,000 slots)" in text.output
    first = json.loads(run("plan", "-", "-o", "json", stdin=GOOD).stdout)
    assert [step["kind"] for step in first["routes"][0]["steps"]] == ["setWeight", "pause", "setWeight"]


def test_plan_describes_dry_runs_prompts_and_routes_without_a_rollout(run: Run) -> None:
    folder = ROOT / "tests" / "golden" / "in"
    text = run("plan", str(folder / "prompt.yaml")).output
    assert (
        "route chat: no rollout; v1 serves all users\n  prompt versions: version 4 for 10 % of the users"
        in text
    )
    assert "evaluated" not in text
    shadow = run("plan", str(folder / "shadow-noise.yaml")).output
    assert "until 50 pairs are compared and their verdict is" in shadow
    analysis = "  analysis: {metrics: [{name: success-rate}], dryRun: true}\n"
    dry = run("plan", "-", stdin=GOOD + analysis).output
    assert "(analysis.dryRun): verdicts are reported but do not affect the rollout" in dry
    acting = run("plan", "-", stdin=GOOD + analysis.replace("true", "false")).output
    assert "the verdict Fail rolls back at once; a timed step" in acting


def test_plan_names_the_guards(run: Run) -> None:
    always = "guards of backends with users: failed, rejected, abandoned, unanswered, empty (roll back)"
    assert f"{always}\n" in run("plan", "-", stdin=GOOD).output
    analysis = "  analysis: {guards: {empty: off, rejected: Notify}, metrics: [{name: success-rate}]}\n"
    chosen = run("plan", "-", stdin=GOOD + analysis).output
    assert (
        "guards of backends with users: abandoned, unanswered (roll back); rejected (report only); "
        "failed (replaced by the metric success-rate); empty (off)"
    ) in chosen
    dry = run("plan", "-", stdin=GOOD + "  analysis: {dryRun: true}\n").output
    assert "unanswered, empty (report only: analysis.dryRun)" in dry
    only = run("plan", str(ROOT / "tests" / "golden" / "in" / "prompt.yaml")).output
    assert "guards" not in only, "no backend is compared"
    data = json.loads(run("plan", "-", "-o", "json", stdin=GOOD + analysis).stdout)["routes"][0]
    assert (data["guards"]["empty"], data["guards"]["failed"]) == ("off", "Rollback")


def test_assign_rejects_a_weight_without_a_spec(run: Run) -> None:
    result = run("assign", "chat", "--weight", "5")
    assert (result.exit_code, "--weight requires --spec" in result.output) == (2, True)


def test_plan_and_diff_reject_an_invalid_spec(run: Run) -> None:
    bad = GOOD.replace("stable: v1", "stable: v9")
    for command in ("plan", "diff"):
        result = run(command, "-", stdin=bad)
        assert result.exit_code == 1
        assert "unknown backend 'v9'" in result.output


@pytest.mark.parametrize("mode", ["gateway", "sidecar"])
def test_bootstrap_contains_group_and_mode(run: Run, mode: str) -> None:
    result = run("bootstrap", "--group", "chat", "--node-id", "pod-1", "--mode", mode)
    found = yaml.safe_load(result.stdout)
    assert found["node"]["id"] == "pod-1"
    assert found["node"]["cluster"] == "chat"
    assert found["node"]["metadata"]["shiftplane"]["mode"] == mode
    listeners = [one["name"] for one in found["static_resources"]["listeners"]]
    assert listeners == (["serve"] if mode == "sidecar" else [])
    assert json.loads(run("bootstrap", "--group", "g", "-o", "json").stdout)["node"]["cluster"] == "g"


TLS = ("--xds-tls-ca", "/tls/ca.crt", "--xds-tls-cert", "/tls/tls.crt", "--xds-tls-key", "/tls/tls.key")


def test_bootstrap_uses_tls_only_with_a_ca(run: Run) -> None:
    assert "transport_socket" not in run("bootstrap", "--group", "chat").stdout
    for args in (TLS[2:], ("--xds-tls-name", "xds")):
        result = run("bootstrap", "--group", "chat", *args)
        assert result.exit_code == 2
        assert "require --xds-tls-ca" in result.output
    result = run("bootstrap", "--group", "chat", *TLS[:4])
    assert result.exit_code == 2
    assert "--xds-tls-cert and --xds-tls-key must be used together" in result.output


@pytest.mark.parametrize(
    ("args", "san", "sni"),
    [
        (
            ("--xds", "xds-server:18000"),
            {"san_type": "DNS", "matcher": {"exact": "xds-server"}},
            "xds-server",
        ),
        (("--xds-tls-name", "xds.mesh"), {"san_type": "DNS", "matcher": {"exact": "xds.mesh"}}, "xds.mesh"),
        ((), {"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}, None),
        (
            ("--xds-tls-name", "spiffe://mesh/ns/a/sa/xds"),
            {"san_type": "URI", "matcher": {"exact": "spiffe://mesh/ns/a/sa/xds"}},
            None,
        ),
    ],
    ids=["host", "name", "address", "uri"],
)
def test_bootstrap_verifies_the_name_of_the_control_plane(
    run: Run, args: tuple[str, ...], san: object, sni: str | None
) -> None:
    result = run("bootstrap", "--group", "chat", *TLS, *args)
    context = _tls_context(yaml.safe_load(result.stdout))
    validation = context["common_tls_context"]["validation_context"]
    assert validation == {"trusted_ca": {"filename": "/tls/ca.crt"}, "match_typed_subject_alt_names": [san]}
    assert context.get("sni") == sni


def test_bootstrap_in_a_file_lets_envoy_reload_certificates(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "envoy.yaml"
    assert run("bootstrap", "--group", "chat", *TLS, "--out", str(out)).exit_code == 0
    common = _tls_context(yaml.safe_load(out.read_text()))["common_tls_context"]
    (certificate,) = common["tls_certificate_sds_secret_configs"]
    found: dict[str, Any] = {}
    for source in (certificate, common["validation_context_sds_secret_config"]):
        (secret,) = yaml.safe_load(Path(source["sds_config"]["path_config_source"]["path"]).read_text())[
            "resources"
        ]
        assert secret["name"] == source["name"]
        found |= secret
    assert found["tls_certificate"]["certificate_chain"] == {"filename": "/tls/tls.crt"}
    assert found["tls_certificate"]["watched_directory"] == {"path": "/tls"}
    assert found["validation_context"]["watched_directory"] == {"path": "/tls"}
    assert found["validation_context"]["match_typed_subject_alt_names"][0]["matcher"] == {
        "exact": "127.0.0.1"
    }


def _tls_context(config: dict[str, Any]) -> Any:
    (cluster,) = (one for one in config["static_resources"]["clusters"] if one["name"] == "shiftplane_xds")
    return cluster["transport_socket"]["typed_config"]


def test_bootstrap_rejects_an_invalid_address(run: Run) -> None:
    result = run("bootstrap", "--group", "chat", "--xds", "nowhere")
    assert result.exit_code == 2
    assert "'nowhere' is not host:port" in result.output
