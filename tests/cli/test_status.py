"""`status`, `init` and `completion`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_online import VIEW
from xds_server.spec import load

if TYPE_CHECKING:
    from tests.cli.conftest import FakeControlPlane, Run


def set_view(control_plane: FakeControlPlane, **changed: Any) -> None:
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps({**VIEW, **changed}))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"phase": "Healthy", "step": None, "outcome": "Promoted"}, 0),
        ({"phase": "RolledBack", "step": None}, 1),
        ({"phase": "Degraded"}, 1),
        ({}, 0),  # waits for an operator
    ],
)
def test_wait_ends_when_the_rollout_ends_or_waits_for_an_operator(
    run: Run, control_plane: FakeControlPlane, changed: dict[str, Any], code: int
) -> None:
    set_view(control_plane, **changed)
    result = run("status", "chat", "--wait", "--timeout", "30", "--server", control_plane.url)
    assert result.exit_code == code
    assert result.output.startswith(f"chat: {changed.get('phase', 'Progressing')}")


def test_wait_times_out_while_the_rollout_is_in_progress(run: Run, control_plane: FakeControlPlane) -> None:
    set_view(control_plane, step={**VIEW["step"], "waiting_for": "convergence"})
    result = run("status", "chat", "--wait", "--timeout", "0", "--server", control_plane.url)
    assert result.exit_code == 4
    assert "1 of 2 proxies synced" in result.output
    assert run("status", "chat", "--server", control_plane.url).exit_code == 0
    assert (
        json.loads(run("status", "chat", "-o", "json", "--server", control_plane.url).stdout)["phase"]
        == "Progressing"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_SHIFTPLANE_COMPLETE" in result.output


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ("10.0.0.1:8000\nvllm-new.prod.svc:8000\nn\ny\n", "shadow+canary"),
        ("10.0.0.1:8000\n10.0.0.2:8000\nn\nn\n\n", "canary"),
        ("10.0.0.1:8000\n10.0.0.2:8000\nn\nn\npurchase\n", "abTest"),
        ("10.0.0.1:8000\n10.0.0.2:8000\ny\n", "blueGreen"),
        ("10.0.0.1\n10.0.0.1:8000\n10.0.0.2:8000\ny\n", "blueGreen"),
    ],
)
def test_init_writes_a_valid_spec(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("init", "chat", stdin=answers)
    assert result.exit_code == 0, result.output
    loaded = load(Path("chat.yaml").read_text(), file="chat.yaml")
    assert loaded.problems == ()
    strategy = loaded.routes[0].spec.strategy
    assert strategy is not None
    chosen = {name for name in type(strategy).model_fields if getattr(strategy, name) is not None}
    expected = {"shadow+canary": {"shadow", "canary"}, "abTest": {"ab_test"}, "blueGreen": {"blue_green"}}
    assert chosen == expected.get(kind, {kind})
    again = run("init", "chat", stdin=answers)
    assert again.exit_code == 1
    assert "exists; overwrite it" in again.output


def test_init_does_not_prompt_if_all_options_are_set(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.yaml"
    args = (
        "--stable",
        "a.svc:1",
        "--candidate",
        "b.svc:1",
        "--model",
        "--no-shadow",
        "--metric",
        "",
        "--out",
        str(out),
    )
    result = run("init", "x", *args)
    assert result.exit_code == 0, result.output
    assert load(out.read_text(), file="x").problems == ()
