"""`describe`, `status` and `cost` show guards, outcome classes, coverage and estimates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.cli.test_online import VIEW, words

if TYPE_CHECKING:
    from tests.cli.conftest import FakeControlPlane, Run

COMMON: Final[dict[str, Any]] = {
    "unit": "of requests",
    "candidate": None,
    "control": None,
    "evidence": 0.0,
    "needed": 0.0,
    "least": 0.0,
    "words": "",
    "finding": None,
    "variant": None,
}
COMPARED: Final = {**COMMON, "variant": "v2", "action": "Rollback", "least": 0.1}
GUARDS: Final = [
    {
        **COMPARED,
        "name": "rejected",
        "finding": "Fail",
        "candidate": {"n": 75, "x": 75, "value": 0.0},
        "control": {"n": 1425, "x": 3, "value": 0.998},
    },
    {
        **COMPARED,
        "name": "abandoned",
        "finding": "NoData",
        "action": "Notify",
        "candidate": {"n": 0, "x": 0, "value": None},
        "control": {"n": 0, "x": 0, "value": None},
    },
    {**COMMON, "name": "failed", "action": "replaced"},
    {**COMMON, "name": "empty", "action": "off"},
]
ANALYSIS: Final = {
    "finding": "Fail",
    "words": "v2 rejected: 75 of 75",
    "dry_run": False,
    "metrics": [],
    "guards": GUARDS,
}
COST: Final = {
    "variant": "v2",
    "role": "primary",
    "requests": 1_000,
    "success": 800,
    "failed": 90,
    "rejected": 60,
    "client_errors": 50,
    "left": 70,
    "left_unanswered": 30,
    "retried": 11,
    "waiting": 12,
    "failures": {"in_band": 40, "unended": 2},
    "unread": {"encoded": 200},
    "coverage": 0.75,
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "estimated_tokens": 1_234,
    "metered": 2,
    "unmetered": 2,
    "invalid": 0,
    "cost": 1.5,
    "per_request": 0.01,
    "currency": "EUR",
}


def shown(run: Run, control_plane: FakeControlPlane, command: str = "describe", **changed: Any) -> str:
    control_plane.responses["GET /v1/routes/chat"] = (200, json.dumps({**VIEW, **changed}))
    result = run(command, "chat", "--server", control_plane.url)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return words(result.output)


def test_describe_shows_guards_with_both_arms(run: Run, control_plane: FakeControlPlane) -> None:
    page = shown(run, control_plane, analysis=ANALYSIS)
    assert "guards v2 rejected: 75 of 75" in page
    assert "rejected v2 Fail 0.21 % (3 of 1,425) 100.00 % (75 of 75) 10 % Rollback" in page
    assert "abandoned v2 no data - - 10 % Notify" in page
    assert "failed - replaced by - - - - success-rate" in page
    assert "empty - off - - - -" in page
    dry = shown(run, control_plane, analysis={**ANALYSIS, "dry_run": True})
    assert "10 % dry run" in dry


def test_describe_shows_withdrawn_backends_and_what_is_not_guarded(
    run: Run, control_plane: FakeControlPlane
) -> None:
    text = "Envoy 1.36 (2 proxies) counts no requests: they are not guarded"
    page = shown(run, control_plane, withdrawn=["v2", "v3"], unguarded=[text])
    assert "withdrawn v2, v3 failed in this rollout. Until a new spec or a retry, v1 serves the users" in page
    assert f"not guarded {text}" in page


def test_describe_shows_classes_and_coverage(run: Run, control_plane: FakeControlPlane) -> None:
    unread = {**COST, "variant": "v1", "coverage": None, "unread": {}, "failures": {}, "left_unanswered": 0}
    page = shown(run, control_plane, costs=[unread, COST])
    assert "v1 800 90 60 50 70 12 11 - v2 800 90 60 50 70 12 11 75 %" in page
    assert "v2 failures with a status below 400: in_band 40, unended 2" in page
    assert "v2 abandoned within 5 s without a byte: 30" in page
    assert "v2 successes that were not read: encoded 200" in page
    assert "v1 failures" not in page


def test_estimates_are_marked(run: Run, control_plane: FakeControlPlane) -> None:
    page = shown(run, control_plane, costs=[COST])
    assert "10 20 ~1,234 ~1.5000 EUR" in page
    assert "~ estimated, or a cost that includes estimated tokens" in page
    assert "~" not in shown(run, control_plane, costs=[{**COST, "estimated_tokens": 0}])
    days = {"days": [{**COST, "day": "2026-01-31"}]}
    control_plane.responses["GET /v1/routes/chat/costs"] = (200, json.dumps(days))
    assert "~1,234 ~1.5000 EUR ~0.010000" in shown(run, control_plane, "cost")


def test_servers_of_earlier_versions_send_no_classes(run: Run, control_plane: FakeControlPlane) -> None:
    new = ("success", "left_unanswered", "coverage")
    old = {name: value for name, value in COST.items() if name not in new}
    page = shown(run, control_plane, costs=[old])
    assert "10 20 ~1,234" in page
    assert "SUCCESS" not in page


def test_status_names_failed_guards_and_no_verdict_of_guards_alone(
    run: Run, control_plane: FakeControlPlane
) -> None:
    failed = shown(run, control_plane, "status", analysis=ANALYSIS, withdrawn=["v2"], unguarded=["x"])
    assert "verdict Fail · failed guards: rejected (v2) · withdrawn: v2 · not guarded: x" in failed
    fine = {**ANALYSIS, "finding": "Inconclusive", "guards": GUARDS[1:]}
    text = shown(run, control_plane, "status", analysis=fine)
    assert "verdict" not in text
    assert "guard" not in text


def test_a_pass_that_is_held_is_explained(run: Run, control_plane: FakeControlPlane) -> None:
    metric = {"name": "success-rate", "finding": "Pass", "action": "Rollback", "words": "not worse"}
    held = "38 % of the candidate's answers were not read (encoded)"
    analysis = {"finding": "Inconclusive", "words": held, "dry_run": False, "metrics": [metric]}
    assert held in shown(run, control_plane, analysis=analysis)
