"""Tests each alert with promtool: series that make it fire, and series that must not."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.catalogue import catalogue
from tests.support.debian import program

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
RULES = yaml.safe_load((ROOT / "k8s/monitoring/prometheus-rule.yaml").read_text(encoding="utf-8"))["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
GROUP = 'group="chat"'
INSTANCE = 'instance="c:1"'
ERRORS = 'envoy_llm_requests{cluster="chat/v2",code="503"}'
FINE = 'envoy_llm_requests{cluster="chat/v2",code="200"}'
UNREAD, READ = (
    f'mirror_collector_compared_pairs_total{{route="chat",api="embeddings",result="{result}"}}'
    for result in ("unread", "read")
)
V1, V2 = 'route="chat",variant="v1",role="primary"', 'route="chat",variant="v2",role="primary"'
OLD, NEW, NEW_UNREAD, AUDIO, OLD_IN_BAND, NEW_IN_BAND = (
    f'shiftplane_requests_total{{{V1},class="success"}}',
    f'shiftplane_requests_total{{{V2},class="success"}}',
    f'shiftplane_unread_answers_total{{{V2},reason="encoded"}}',
    f'shiftplane_unread_answers_total{{{V2},reason="other"}}',
    f'shiftplane_failed_answers_total{{{V1},kind="in_band"}}',
    f'shiftplane_failed_answers_total{{{V2},kind="in_band"}}',
)
NONE_UNREAD = {
    f'shiftplane_unread_answers_total{{{leg},reason="{reason}"}}': "0x90"
    for leg in (V1, V2)
    for reason in ("encoded", "other")
}
STABLE = {'shiftplane_route_stable{route="chat",variant="v1"}': "1x60"}
GUARD = 'shiftplane_guard_failed{route="chat",variant="v2",guard="rejected"}'
WITHDRAWN = 'shiftplane_backend_withdrawn{route="chat",variant="v2"}'
WEIGHT = 'shiftplane_route_weight_percent{route="chat",variant="v2"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Values per minute in promtool's notation: `0x5 1x60` is six zeros and sixty-one ones."""

    fires: Mapping[str, str]
    quiet: tuple[Mapping[str, str], ...]
    at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str


CASES = {
    "CanaryRegressionDetected": Case(
        fires={ERRORS: "0+60x60", FINE: "0+240x60", WEIGHT: "5x60"},
        quiet=(
            {ERRORS: "0+6x60", FINE: "0+240x60", WEIGHT: "5x60"},
            # The backend has weight 0.
            {ERRORS: "0+60x60", FINE: "0+240x60", WEIGHT: "0x60"},
            # The error rate has not been high for ten minutes.
            {ERRORS: "0x21 0+60x40", FINE: "0+240x60", WEIGHT: "5x60"},
        ),
        at="30m",
        labels={"cluster": "chat/v2", "route": "chat"},
        summary="only 80% of the requests to chat/v2 end without a 5xx",
    ),
    "ShiftplaneAbsent": Case(
        fires={"shiftplane_xds_streams": "3x5 _x60 stale"},
        quiet=({"shiftplane_xds_streams": "0x60"},),
        at="20m",
        summary=(
            "no control plane is scraped: if none runs, "
            "rollouts stand still, proxies keep their configuration"
        ),
    ),
    "ShiftplaneStoreFailing": Case(
        fires={"shiftplane_store_failures_total": "0x5 0+60x60"},
        quiet=({"shiftplane_store_failures_total": "7x60"},),
        at="20m",
        summary="the control plane cannot write to its store: rollouts stand still",
    ),
    "ShiftplaneProxiesNacked": Case(
        fires={f'shiftplane_proxies{{{GROUP},status="NACKED"}}': "0x5 2x60"},
        quiet=(
            {f'shiftplane_proxies{{{GROUP},status="NACKED"}}': "0x15 2x60"},
            {f'shiftplane_proxies{{{GROUP},status="SYNCED"}}': "9x60"},
        ),
        at="18m",
        labels={"group": "chat"},
        summary="proxies of group chat that rejected the newest version (NACK): 2",
    ),
    "ShiftplaneProxiesStale": Case(
        fires={f'shiftplane_proxies{{{GROUP},status="STALE"}}': "0x5 3x60"},
        quiet=(
            {f'shiftplane_proxies{{{GROUP},status="STALE"}}': "0x15 3x60"},
            {f'shiftplane_proxies{{{GROUP},status="NACKED"}}': "9x60"},
        ),
        at="18m",
        labels={"group": "chat"},
        summary="proxies of group chat that have not acknowledged the newest version: 3",
    ),
    "ShiftplaneWorldNotBuilt": Case(
        fires={"shiftplane_xds_worlds_failed_total": "0x10 1x60"},
        quiet=({"shiftplane_xds_worlds_failed_total": "1x60"},),
        at="15m",
        summary="a snapshot could not be built: some proxies keep the previous version",
    ),
    "ShiftplaneRolloutDegraded": Case(
        fires={'shiftplane_route_phase{route="chat",phase="Degraded"}': "1x60"},
        quiet=({'shiftplane_route_phase{route="chat",phase="Progressing"}': "1x60"},),
        at="10m",
        labels={"route": "chat"},
        summary="the rollout of chat is Degraded: proxies were not synced within progressDeadline",
    ),
    "ShiftplaneKilledForADay": Case(
        fires={'shiftplane_route_killed{route="chat"}': "0x5 1x2000"},
        quiet=(
            {'shiftplane_route_killed{route="chat"}': "0x80 1x2000"},
            {'shiftplane_route_killed{route="chat"}': "0x2000"},
        ),
        at="25h",
        labels={"route": "chat"},
        summary="route chat has been killed for a day",
    ),
    "ShiftplaneBackendDead": Case(
        fires={'shiftplane_backend_dead{route="chat",backend="v2"}': "_x5 1x60"},
        quiet=({'shiftplane_backend_dead{route="chat",backend="v2"}': "_x9 1x60"},),
        at="10m",
        labels={"route": "chat", "backend": "v2"},
        summary="no endpoint of chat/v2 is healthy",
    ),
    "ShiftplaneGuardFailed": Case(
        fires={GUARD: "0x5 1x60", 'shiftplane_route_phase{route="chat",phase="Progressing"}': "1x60"},
        quiet=(
            {GUARD: "0x60"},
            {GUARD: "0x9 1x60"},
            # The candidate was rolled back or withdrawn.
            {GUARD: "1x60", 'shiftplane_route_phase{route="chat",phase="RolledBack"}': "1x60"},
            {GUARD: "1x60", WITHDRAWN: "1x60"},
            {GUARD: "1x60", 'shiftplane_route_killed{route="chat"}': "1x60"},
        ),
        at="10m",
        labels={"route": "chat", "variant": "v2", "guard": "rejected"},
        summary="chat/v2 failed the guard rejected, and was neither rolled back nor withdrawn",
    ),
    "ShiftplaneBackendWithdrawn": Case(
        fires={WITHDRAWN: "_x5 1x60"},
        quiet=({WITHDRAWN: "_x30 1x60"},),
        at="10m",
        labels={"route": "chat", "variant": "v2"},
        summary="chat/v2 failed and was withdrawn: the stable backend serves its users",
    ),
    "ShiftplaneCoverageDiffers": Case(
        fires={**NONE_UNREAD, OLD: "0+100x90", NEW: "0+100x90", NEW_UNREAD: "0+30x90"},
        quiet=(
            {**NONE_UNREAD, OLD: "0+100x90", NEW: "0+100x90", NEW_UNREAD: "0+15x90"},
            # Fewer than 50 answers in ten minutes.
            {**NONE_UNREAD, OLD: "0+100x90", NEW: "0+4x90", NEW_UNREAD: "0+4x90"},
            # Audio is read from no backend.
            {**NONE_UNREAD, OLD: "0+100x90", NEW: "0+100x90", AUDIO: "0+80x90"},
        ),
        at="40m",
        labels={"route": "chat"},
        summary="the share of successful answers not read differs by 30% between the backends of chat",
    ),
    "ShiftplaneAnswersUnread": Case(
        fires={**NONE_UNREAD, NEW: "0+100x90", NEW_UNREAD: "0+60x90"},
        quiet=(
            {**NONE_UNREAD, NEW: "0+100x90", NEW_UNREAD: "0+40x90"},
            {**NONE_UNREAD, NEW: "0+100x90", AUDIO: "0+90x90"},
        ),
        at="40m",
        labels={"route": "chat", "variant": "v2", "role": "primary"},
        summary="60% of the successful answers of chat/v2 (primary) were not read by proxies",
    ),
    "ShiftplaneStableFailsInBand": Case(
        fires={**STABLE, OLD: "0+95x60", OLD_IN_BAND: "0+5x60"},
        quiet=(
            {**STABLE, OLD: "0+1000x60", OLD_IN_BAND: "0+5x60"},
            # Guards and metrics are there for candidates.
            {**STABLE, NEW: "0+100x60", NEW_IN_BAND: "0+50x60"},
            {OLD: "0+100x60", OLD_IN_BAND: "0+50x60"},
        ),
        at="30m",
        labels={"route": "chat", "variant": "v1"},
        summary="5.263% of the requests to chat/v1, the stable backend, have an error inside the answer",
    ),
    "ShiftplaneCaptureLost": Case(
        fires={f'shiftplane_capture_lost_total{{{GROUP},reason="log_entries_dropped"}}': "0+5x60"},
        quiet=({f'shiftplane_capture_lost_total{{{GROUP},reason="log_entries_dropped"}}': "0x5 90x60"},),
        at="30m",
        labels={"group": "chat", "reason": "log_entries_dropped"},
        summary="proxies of group chat drop captured legs or copied requests: log_entries_dropped",
    ),
    "ShiftplaneNotificationsLost": Case(
        fires={'shiftplane_notifications_total{target="ops",result="refused"}': "0x5 1x60"},
        quiet=(
            {'shiftplane_notifications_total{target="ops",result="delivered"}': "0+3x60"},
            {'shiftplane_notifications_total{target="ops",result="too_old"}': "4x60"},
        ),
        at="10m",
        labels={"target": "ops", "result": "refused"},
        summary="notifications to ops were lost: refused",
    ),
    "MirrorCollectorAbsent": Case(
        fires={"up": "1x60"},
        quiet=({"mirror_collector_store_writable": "0x60"},),
        at="10m",
        summary="no collector is scraped: if none runs, the answers of shadows are not compared",
    ),
    "MirrorCollectorStoreFailing": Case(
        fires={f"mirror_collector_store_writable{{{INSTANCE}}}": "1x5 0x60"},
        quiet=({f"mirror_collector_store_writable{{{INSTANCE}}}": "1x8 0x60"},),
        at="10m",
        labels={"instance": "c:1"},
        summary="collector c:1 cannot write to its store: pairs are lost",
    ),
    "MirrorCollectorUnread": Case(
        fires={UNREAD: "0+60x60", READ: "0+30x60"},
        quiet=(
            {UNREAD: "0+30x60", READ: "0+60x60"},
            # Another API is read, and this one is not used.
            {UNREAD: "9x60", READ: "0+60x60"},
        ),
        at="30m",
        labels={"route": "chat", "api": "embeddings"},
        summary=(
            "most pairs of chat (embeddings) have an answer that the collector cannot read: "
            "they are no evidence"
        ),
    ),
    "MirrorCollectorDropping": Case(
        fires={f'mirror_collector_dropped_total{{{INSTANCE},reason="queue_full"}}': "0+5x60"},
        quiet=({f'mirror_collector_dropped_total{{{INSTANCE},reason="queue_full"}}': "90x60"},),
        at="20m",
        labels={"instance": "c:1", "reason": "queue_full"},
        summary="collector c:1 drops captured legs: queue_full",
    ),
}


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(ALERTS)


def unit(alert: str, series: Mapping[str, str], *, fires: bool) -> dict[str, Any]:
    case, rule = CASES[alert], ALERTS[alert]
    annotations = {**rule["annotations"], "summary": case.summary}
    labels = {**case.labels, **rule["labels"]}
    expected = [{"exp_labels": labels, "exp_annotations": annotations}] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": alert, "exp_alerts": expected}],
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_only_when_it_should(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    tests = [unit(alert, case.fires, fires=True)]
    tests += [unit(alert, series, fires=False) for series in case.quiet]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    command: list[str | Path] = [program("prometheus", "promtool"), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_use_existing_series() -> None:
    known = {series.name for name in ("xds_server", "mirror_collector") for series in catalogue(name)}
    for alert, rule in ALERTS.items():
        named = set(re.findall(r"\b(?:shiftplane|mirror_collector)_[a-z_]+", rule["expr"]))
        assert named <= known, alert


def test_each_alert_has_a_runbook() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    for alert, rule in ALERTS.items():
        assert rule["annotations"].get("runbook") == f"docs/operations.md#{alert.lower()}"
        assert alert.lower() in headings
