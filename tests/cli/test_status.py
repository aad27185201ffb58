"""`status`, `init`, `completion` and `get --watch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_online import VIEW
from xds_server.spec import load

if TYPE_CHECKING:
    from tests.cli.conftest import Canned, Run


def stand(canned: Canned, **changed: Any) -> None:
    canned.answers["GET /v1/routes/chat"] = (200, json.dumps({**VIEW, **changed}))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"phase": "Healthy", "step": None, "outcome": "Promoted"}, 0),
        ({"phase": "RolledBack", "step": None}, 1),
        ({"phase": "Degraded"}, 1),
        ({}, 0),  # it waits for an operator
    ],
)
def test_what_has_ended_or_waits_ends_the_waiting(
    run: Run, canned: Canned, changed: dict[str, Any], code: int
) -> None:
    stand(canned, **changed)
    said = run("status", "chat", "--wait", "--timeout", "30", "--server", canned.url)
    assert said.exit_code == code
    assert said.output.startswith(f"chat: {changed.get('phase', 'Progressing')}")


def test_what_is_under_way_runs_into_the_timeout(run: Run, canned: Canned) -> None:
    stand(canned, step={**VIEW["step"], "waiting_for": "convergence"})
    said = run("status", "chat", "--wait", "--timeout", "0", "--server", canned.url)
    assert said.exit_code == 4
    assert "1 of 2 proxies" in said.output
    assert run("status", "chat", "--server", canned.url).exit_code == 0
    assert (
        json.loads(run("status", "chat", "-o", "json", "--server", canned.url).stdout)["phase"]
        == "Progressing"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    said = run("completion", shell)
    assert said.exit_code == 0
    assert "_SHIFTPLANE_COMPLETE" in said.output


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
def test_five_questions_write_a_spec_without_a_problem(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("init", "chat", stdin=answers)
    assert said.exit_code == 0, said.output
    loaded = load(Path("chat.yaml").read_text(), file="chat.yaml")
    assert loaded.problems == ()
    strategy = loaded.routes[0].spec.strategy
    assert strategy is not None
    chosen = {name for name in type(strategy).model_fields if getattr(strategy, name) is not None}
    expected = {"shadow+canary": {"shadow", "canary"}, "abTest": {"ab_test"}, "blueGreen": {"blue_green"}}
    assert chosen == expected.get(kind, {kind})
    again = run("init", "chat", stdin=answers)
    assert again.exit_code == 1
    assert "there already" in again.output


def test_init_asks_nothing_where_everything_is_said(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.yaml"
    words = (
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
    said = run("init", "x", *words)
    assert said.exit_code == 0, said.output
    assert load(out.read_text(), file="x").problems == ()
