"""The views of verdicts, guards and outcome classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.plane import route
from xds_server.analysis.counts import Block, Counts, Leg, Role
from xds_server.analysis.verdicts import (
    AnalysisResult,
    MetricVerdict,
    add_block,
    analyze,
    policy_from_spec,
    start_evidence,
)
from xds_server.spec import RouteSpec, load
from xds_server.view.verdicts import analysis_view, cost_view

if TYPE_CHECKING:
    from xds_server.view import AnalysisView

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
FINE, REJECTED = Counts(requests=475, answers=475), Counts(requests=25, rejected=25)


def spec(analysis: str = "{}") -> RouteSpec:
    text = route(("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002"), more=f"analysis: {analysis}")
    (found,) = load(text, file="chat.yaml").routes
    return found.spec


def result(of: RouteSpec, *blocks: Counts) -> AnalysisResult:
    policy = policy_from_spec(of)
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    for number, counts in enumerate(blocks):
        block = Block(start=10.0 * number, seconds=10.0, legs={CANDIDATE: counts, CONTROL: FINE})
        evidence = add_block(evidence, policy, block)
    return analyze(evidence, policy, 10.0 * len(blocks))


def shown(of: RouteSpec, *blocks: Counts) -> AnalysisView:
    found = result(of, *blocks)
    view = analysis_view(found, {"v2": found.guards} if found.guards else {}, of.analysis)
    assert view is not None
    return view


def test_guards_are_shown_without_metrics_and_prove_nothing_good() -> None:
    fine = shown(spec(), *[Counts(requests=25, answers=25)] * 9)
    assert (fine.metrics, len(fine.guards)) == ((), 5)
    assert (fine.finding, fine.words) == ("Inconclusive", "the spec has no metrics; no guard fails")
    unused = shown(spec(), Counts())
    assert unused.finding == "NoData"


def test_a_failed_guard_is_shown_with_the_numbers_of_both_arms() -> None:
    view = shown(spec(), *[REJECTED] * 3)
    (failed,) = [guard for guard in view.guards if guard.finding == "Fail"]
    assert (failed.name, failed.variant, failed.action, failed.least) == ("rejected", "v2", "Rollback", 0.1)
    assert failed.candidate == {"n": 75, "x": 75, "value": 0.0}
    assert failed.control == {"n": 1425, "x": 0, "value": 1.0}
    assert failed.evidence >= failed.needed
    assert (view.finding, view.words) == ("Fail", f"v2 {failed.words}")


def test_guards_that_are_off_or_replaced_are_listed() -> None:
    of = spec("{guards: {empty: off, rejected: Notify}, metrics: [{name: success-rate}]}")
    view = shown(of, *[REJECTED] * 3)
    actions = {guard.name: (guard.action, guard.variant) for guard in view.guards}
    assert actions == {
        "failed": ("replaced", None),
        "rejected": ("Notify", "v2"),
        "abandoned": ("Rollback", "v2"),
        "unanswered": ("Rollback", "v2"),
        "empty": ("off", None),
    }
    words = {guard.name: guard.words for guard in view.guards}
    assert words["empty"] == "empty: the spec turns this guard off (analysis.guards.empty)"
    assert words["failed"] == "failed: the metric success-rate replaces this guard"


def test_a_guard_that_is_off_is_not_listed_as_replaced() -> None:
    view = shown(spec("{guards: {failed: off}, metrics: [{name: success-rate}]}"), FINE)
    assert [guard.action for guard in view.guards if guard.name == "failed"] == ["off"]


def test_guards_of_backends_with_users_by_targeting_are_shown_without_a_candidate() -> None:
    of = spec()
    by_rules: dict[str, tuple[MetricVerdict, ...]] = {"v2": result(of, *[REJECTED] * 3).guards}
    view = analysis_view(None, by_rules, of.analysis)
    assert view is not None
    assert (view.finding, view.metrics) == ("Fail", ())


def test_nothing_is_shown_before_the_first_block_and_for_copies_alone() -> None:
    of = spec()
    assert analysis_view(None, {}, of.analysis) is None
    policy, copies = policy_from_spec(of), Leg(route="chat", variant="v2", role=Role.SHADOW)
    found = analyze(start_evidence(policy, copies, CONTROL), policy, 0.0)
    assert analysis_view(found, {}, of.analysis) is None


def test_the_classes_add_up_and_coverage_is_the_share_of_successes_that_were_read() -> None:
    counts = Counts(
        requests=100,
        failed=9,
        in_band=4,
        rejected=6,
        client_errors=5,
        left=7,
        left_unanswered=3,
        answers=60,
        unread_encoded=15,
        unread_other=5,
    )
    (view,) = cost_view(spec(), {CANDIDATE: counts})
    assert view.success == 80
    assert view.success + view.failed + view.rejected + view.client_errors == view.requests
    assert (view.left, view.left_unanswered) == (7, 3)
    assert view.coverage == pytest.approx(0.75)
    assert (view.failures, view.unread) == ({"in_band": 4}, {"encoded": 15, "other": 5})


def test_counts_of_earlier_versions_have_no_coverage() -> None:
    (view,) = cost_view(spec(), {CANDIDATE: Counts(requests=100, failed=9)})
    assert view.coverage is None
