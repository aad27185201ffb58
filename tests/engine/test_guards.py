"""Guards in a running engine: without any metric, by rules, after a restart, a retry and a new spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import CANARY, SHADOW, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.analysis.counts import Counts, Leg
from xds_server.engine import Action
from xds_server.rollout import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from xds_server.rollout import State

GUARDED = "analysis: {interval: 1s}"
RULE = "targeting: {rules: [{name: own, clauses: [{attribute: user.id, op: exists}], serve: v2}]}"
FINE, GONE = Counts(requests=100, answers=100), Counts(requests=20, rejected=20)


def state(harness: EngineHarness) -> State:
    return harness.engine.table.get("chat").state


async def canary(harness: EngineHarness, more: str = GUARDED) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY, more=more))
    await harness.until(lambda: state(harness).weight == 500 and state(harness).converged)


async def ruled(harness: EngineHarness, more: str = GUARDED) -> None:
    FakeProxy(harness.hub)
    await harness.apply(by_rule(more))
    await harness.phase("Healthy")


def by_rule(more: str = GUARDED) -> str:
    return route(V1, V2, more=f"{RULE}\n  {more}").replace("  candidate: v2\n", "")


async def count(harness: EngineHarness, v2: Counts, *, blocks: int = 4, v1: Counts = FINE) -> None:
    """Count the same of both backends in several blocks."""
    await count_arms(harness, {"v1": v1, "v2": v2}, blocks=blocks)


async def count_arms(harness: EngineHarness, arms: dict[str, Counts], *, blocks: int = 4) -> None:
    """Count the same of each backend in several blocks."""
    analysis = harness.engine.analysis

    def is_closed() -> bool:
        return analysis._analyses["chat"].block_started == harness.now

    for _ in range(blocks):
        legs = {Leg(route="chat", variant=name): counts for name, counts in arms.items()}
        analysis.count_from_proxy("chat", legs)
        harness.now += 1.1
        harness.engine.inbox.wake()
        await harness.until(is_closed)


@pytest.mark.parametrize(
    ("candidate", "guard"),
    [
        (GONE, "rejected"),
        (Counts(requests=20, client_errors=20), "rejected"),
        (Counts(requests=20, failed=20), "failed"),
        (Counts(left=20), "abandoned"),
        (Counts(left=20, left_unanswered=20), "unanswered"),
        (Counts(waiting=20), "unanswered"),
        (Counts(requests=20, answers=20, tokens=(20, *FINE.tokens[1:])), "empty"),
    ],
)
async def test_a_guard_rolls_back_without_metrics(tmp_path: Path, candidate: Counts, guard: str) -> None:
    stable = Counts(requests=100, answers=100, tokens=(0, *FINE.tokens[1:-1], 100))
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await canary(harness)
        await count(harness, candidate, v1=stable)
        await harness.phase("RolledBack")
        assert f"failed: {guard}: " in state(harness).message


@pytest.mark.parametrize(
    "analysis",
    [
        "analysis: {interval: 1s, guards: {rejected: off}}",
        "analysis: {interval: 1s, guards: {rejected: Notify}}",
        "analysis: {interval: 1s, dryRun: true}",
    ],
)
@pytest.mark.parametrize("targeted", [False, True])
async def test_a_guard_that_does_not_act(tmp_path: Path, analysis: str, *, targeted: bool) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await (ruled if targeted else canary)(harness, analysis)
        await count(harness, GONE, blocks=6)
        await harness.ticks()
        found = state(harness)
        assert (found.weight, found.withdrawn, found.finding) == (0 if targeted else 500, (), None)


async def test_without_metrics_no_verdict_but_fail_reaches_the_rollout(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await canary(harness)
        before = state(harness)
        await count(harness, Counts(requests=20, answers=20), blocks=8)
        await count(harness, Counts(), blocks=2, v1=Counts())
        harness.now += 120.0
        harness.engine.inbox.wake()
        await harness.ticks()
        assert (state(harness).finding, state(harness).revision) == (None, before.revision)


async def test_proxies_that_count_nothing_roll_nothing_back(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await canary(harness)
        harness.now += 600.0
        await harness.ticks(10)
        assert (state(harness).weight, state(harness).finding) == (500, None)


async def test_a_rule_that_serves_a_broken_backend_is_withdrawn_once(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await ruled(harness)
        await count(harness, Counts(requests=20, answers=20))
        assert state(harness).withdrawn == ()
        await count(harness, GONE)
        await harness.until(lambda: state(harness).withdrawn == ("v2",))
        revision = state(harness).revision
        await count(harness, GONE)
        assert (state(harness).revision, state(harness).phase.value) == (revision, "Healthy")


async def test_a_withdrawal_survives_a_restart_and_ends_with_a_new_spec(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with running_engine(path) as harness:
        await ruled(harness)
        await count(harness, GONE)
        await harness.until(lambda: state(harness).withdrawn == ("v2",))
        now = harness.now
    async with running_engine(path, now=now) as harness:
        FakeProxy(harness.hub)
        assert state(harness).withdrawn == ("v2",)
        await count(harness, Counts(requests=20, answers=20), blocks=2)
        assert state(harness).withdrawn == ("v2",)
        assert await harness.apply(by_rule().replace(":9002", ":9003")) == "updated"
        await harness.until(lambda: state(harness).withdrawn == ())
        await count(harness, Counts(requests=20, answers=20))
        assert state(harness).withdrawn == (), "earlier evidence does not count"
        await count(harness, GONE)
        await harness.until(lambda: state(harness).withdrawn == ("v2",))


async def test_a_retry_begins_with_new_evidence(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await canary(harness)
        await count(harness, GONE)
        await harness.phase("RolledBack")
        assert state(harness).withdrawn == ("v2",)
        await harness.act(Action.RETRY)
        await harness.until(lambda: state(harness).weight == 500 and state(harness).converged)
        assert state(harness).withdrawn == ()
        await count(harness, Counts(requests=20, answers=20))
        assert state(harness).weight == 500


async def test_rules_lose_a_backend_that_fails_after_an_abort(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        await canary(harness, f"{RULE}\n  {GUARDED}")
        await harness.act(Action.ABORT)
        await harness.phase("RolledBack")
        await count(harness, GONE)
        await harness.until(lambda: state(harness).withdrawn == ("v2",))
        assert state(harness).phase.value == "RolledBack"
        assert state(harness).outcome is Outcome.ABORTED


async def test_rules_lose_a_backend_that_fails_while_a_proxy_does_not_apply_the_rollback(
    tmp_path: Path,
) -> None:
    async with running_engine(tmp_path / "state.sqlite") as harness:
        proxy = FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, CANARY, more=f"{RULE}\n  {GUARDED}"))
        await harness.until(lambda: state(harness).weight == 500 and state(harness).converged)
        proxy.silent = True
        await harness.act(Action.ABORT)
        await harness.phase("RollingBack")
        await count(harness, GONE)
        await harness.until(lambda: state(harness).withdrawn == ("v2",))
        assert (state(harness).phase.value, state(harness).outcome) == ("RollingBack", Outcome.ABORTED)


@pytest.mark.parametrize("failing", ["v2", "v3"])
async def test_a_backend_that_rules_serve_fails_beside_a_shadow(tmp_path: Path, failing: str) -> None:
    backends = '    - {name: v3, endpoints: ["127.0.0.1:9003"]}\n  stable'
    rule = RULE.replace("serve: v2", f"serve: {failing}")
    spec = route(V1, V2, SHADOW, more=f"{rule}\n  {GUARDED}").replace("  stable", backends)
    async with running_engine(tmp_path / "state.sqlite") as harness:
        FakeProxy(harness.hub)
        await harness.apply(spec)
        await harness.until(lambda: state(harness).mirror == 2_000 and state(harness).converged)
        await count_arms(harness, {"v1": FINE, failing: GONE})
        await harness.until(lambda: state(harness).withdrawn == (failing,))
        assert (state(harness).mirror, state(harness).phase.value == "Shadowing") == (
            (0, False) if failing == "v2" else (2_000, True)
        )
        (name,) = harness.engine.analysis.guards("chat")
        assert name == failing


AB_TEST = (
    "{abTest: {randomizationUnit: user.id, variants: [{backend: v2, weight: 30}, {backend: v3, weight: 30}]}}"
)


async def test_a_withdrawn_variant_keeps_out_after_an_edit_of_the_spec(tmp_path: Path) -> None:
    backends = '    - {name: v3, endpoints: ["127.0.0.1:9003"]}\n  stable'
    spec = route(V1, V2, AB_TEST, more=GUARDED).replace("  candidate: v2\n", "").replace("  stable", backends)
    async with running_engine(tmp_path / "state.sqlite") as harness:
        FakeProxy(harness.hub)
        await harness.apply(spec)
        await harness.until(lambda: state(harness).weights == {"v2": 3_000, "v3": 3_000})
        await count_arms(harness, {"v1": FINE, "v2": FINE, "v3": GONE})
        await harness.until(lambda: state(harness).weights == {"v2": 3_000})
        await harness.apply(spec.replace(":9003", ":9004"))
        await harness.until(lambda: state(harness).withdrawn == ())
        await count_arms(harness, {"v1": FINE, "v2": FINE})
        await harness.ticks()
        assert (state(harness).withdrawn, state(harness).weights) == ((), {"v2": 3_000})
