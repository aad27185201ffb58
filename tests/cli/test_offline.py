"""Commands that need no server: lint, plan, diff, bootstrap, and the help of all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.plane import route
from xds_server.cli import _VERBS

if TYPE_CHECKING:
    from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
BAD = sorted((ROOT / "tests" / "golden" / "bad_specs").glob("*.yaml"))
CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
GOOD = route(("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002"), CANARY)


@pytest.mark.parametrize("verb", _VERBS)
def test_every_help_says_what_it_does_and_shows_an_example(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert re.search(r"Example:\s+(shiftplane|make)", result.output), result.output
    shown = {"watch", "demo", "serve", "bootstrap", "delete"}
    assert verb in shown or "--output" in result.output, "what prints data prints it as JSON too"


def test_the_list_of_commands_is_whole(run: Run) -> None:
    result = run("--help")
    assert all(re.search(rf"^\s+{verb} ", result.output, re.MULTILINE) for verb in _VERBS)


def test_a_mistyped_command_is_told_its_neighbour(run: Run) -> None:
    result = run("wacth", "chat")
    assert result.exit_code == 2
    assert "no such command 'wacth'; did you mean 'watch'?" in result.output


def test_lint_of_good_specs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(GOOD)
    assert run("lint", str(tmp_path)).exit_code == 0
    result = run("lint", "-", "-o", "json", stdin=GOOD)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"routes": 1, "errors": 0, "problems": []}


def test_lint_prints_all_problems_with_their_places(run: Run, tmp_path: Path) -> None:
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


def test_lint_lets_warnings_fail_when_told(run: Run) -> None:
    idle = GOOD.replace("candidate: v2", "").replace(f"strategy: {CANARY}", "")
    assert run("lint", "-", stdin=idle).exit_code == 0
    assert run("lint", "--strict", "-", stdin=idle).exit_code == 1


def test_lint_of_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path, words in (
        (tmp_path / "absent.yaml", "No such file"),
        (tmp_path / "binary.yaml", "not UTF-8 text (byte 0)"),
    ):
        result = run("lint", str(path))
        assert result.exit_code == 1
        assert words in result.output
    (tmp_path / "empty").mkdir()
    assert "holds no *.yaml" in run("lint", str(tmp_path / "empty")).output


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_bad_spec_fails_lint(run: Run, path: Path) -> None:
    result = run("lint", "--strict", str(path))
    assert result.exit_code == 1
    assert str(path) in result.output


def test_plan_says_each_step_and_its_resources(run: Run) -> None:
    text = run("plan", "-", stdin=GOOD)
    assert text.exit_code == 0
    assert "1. weight 5 % (500 of 10,000 slots)" in text.output
    first = json.loads(run("plan", "-", "-o", "json", stdin=GOOD).stdout)
    assert [step["kind"] for step in first["routes"][0]["steps"]] == ["setWeight", "pause", "setWeight"]


def test_plan_and_diff_refuse_a_bad_spec(run: Run) -> None:
    bad = GOOD.replace("stable: v1", "stable: v9")
    for verb in ("plan", "diff"):
        result = run(verb, "-", stdin=bad)
        assert result.exit_code == 1
        assert "there is no backend 'v9'" in result.output


@pytest.mark.parametrize("mode", ["gateway", "sidecar"])
def test_bootstrap_names_its_group_and_mode(run: Run, mode: str) -> None:
    result = run("bootstrap", "--group", "chat", "--node-id", "pod-1", "--mode", mode)
    found = yaml.safe_load(result.stdout)
    assert found["node"]["id"] == "pod-1"
    assert found["node"]["cluster"] == "chat"
    assert found["node"]["metadata"]["shiftplane"]["mode"] == mode
    listeners = [one["name"] for one in found["static_resources"]["listeners"]]
    assert listeners == (["serve"] if mode == "sidecar" else [])
    assert json.loads(run("bootstrap", "--group", "g", "-o", "json").stdout)["node"]["cluster"] == "g"


def test_bootstrap_refuses_a_wrong_address(run: Run) -> None:
    result = run("bootstrap", "--group", "chat", "--xds", "nowhere")
    assert result.exit_code == 2
    assert "'nowhere' is not host:port" in result.output
