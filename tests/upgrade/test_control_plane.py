"""Files written by release 0.1 of the control plane keep working: store, bootstraps, CLI contexts.

`data/` was written by that release: a canary in the middle of a pause whose analysis is inconclusive, and a
shadow that an operator killed. `expected.json` holds what its API answered at that moment.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from tests.engine.harness import EngineHarness, running_engine
from tests.support.proxy import FakeProxy
from xds_server.analysis.counts import Counts, Leg
from xds_server.analysis.verdicts import Arms, analyzed_block_from_json, replay
from xds_server.cli import main
from xds_server.cli.contexts import load
from xds_server.rollout import Outcome
from xds_server.rollout.codec import state_to_json
from xds_server.view import to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATA = Path(__file__).parent / "data"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
SAME = ("phase", "step", "weights", "generation", "revision", "kill", "message", "outcome", "mirror_percent")


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    path = tmp_path / "state.sqlite"
    database = sqlite3.connect(path)
    database.executescript((DATA / "state.sql").read_text())
    database.close()
    async with running_engine(path, now=EXPECTED["now"]) as running:
        yield running


async def test_a_route_is_where_it_was(harness: EngineHarness) -> None:
    for name, view in EXPECTED["views"].items():
        found = json.loads(json.dumps(_view(harness, name)))
        assert {key: found[key] for key in SAME} == {key: view[key] for key in SAME}
        assert [event["message"] for event in found["events"]] == [e["message"] for e in view["events"]]


async def test_the_persisted_state_is_read_whole(harness: EngineHarness) -> None:
    for name, state in EXPECTED["states"].items():
        assert json.loads(state_to_json(harness.engine.table.get(name).state)) == state


async def test_the_verdict_is_the_same(harness: EngineHarness) -> None:
    state = harness.engine.table.get("chat").state
    assert state.finding is not None
    assert state.finding.value == EXPECTED["states"]["chat"]["finding"] == "Inconclusive"
    result = harness.engine.analysis.result("chat")
    assert result is not None
    (metric,) = (m for m in result.metrics if m.metric == "success-rate")
    assert metric.candidate is not None
    assert (metric.candidate.x, metric.candidate.n) == (3, 300), "the stored blocks are evaluated again"


async def test_recorded_blocks_can_be_replayed(harness: EngineHarness) -> None:
    lines = (await harness.engine.queries.blocks("chat", 1_000)).splitlines()
    blocks = [analyzed_block_from_json(json.loads(line)) for line in lines]
    assert blocks
    assert all(block.context is None for block in blocks)
    policy = harness.engine.analysis.policy(harness.engine.table.get("chat"))
    (run,) = replay(policy, blocks, Arms(route="chat", control="v1", candidates=("v2",)))
    assert run.outcome.value == EXPECTED["states"]["chat"]["finding"]
    result = harness.engine.analysis.result("chat")
    assert result is not None
    assert (run.last, run.missing) == (result, ())


async def test_the_clock_of_the_pause_goes_on(harness: EngineHarness) -> None:
    FakeProxy(harness.hub)
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    ends_at = EXPECTED["views"]["chat"]["step"]["ends_at"]
    harness.now = ends_at - 1
    harness.engine.inbox.wake()
    await harness.until(lambda: "NoData" in harness.engine.queries.view("chat").events[-1].message)
    assert harness.engine.queries.view("chat").step.ends_at == ends_at  # type: ignore[union-attr]
    harness.now = ends_at + 1
    harness.engine.inbox.wake()
    # The pause is over on time; the step now waits for a verdict, because no request was counted since.
    await harness.until(lambda: harness.engine.queries.view("chat").events[-1].kind == "extended")


@asynccontextmanager
async def _changed(path: Path, **fields: Any) -> AsyncIterator[EngineHarness]:
    """Run an engine on the store, with fields of the state of `chat` as a later release wrote them."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript((DATA / "state.sql").read_text())
        database.execute(
            "UPDATE routes SET state = json_patch(state, ?) WHERE name = 'chat'", (json.dumps(fields),)
        )
        database.commit()
    async with running_engine(path, now=EXPECTED["now"]) as running:
        FakeProxy(running.hub)
        yield running


async def _fail(harness: EngineHarness) -> None:
    """Count requests in several blocks; v2 rejects all of its own."""
    analysis = harness.engine.analysis
    for _ in range(4):
        for variant, counts in (
            ("v1", Counts(requests=900, answers=900)),
            ("v2", Counts(requests=90, rejected=90)),
        ):
            analysis.count_from_proxy("chat", {Leg(route="chat", variant=variant): counts})
        harness.now += 1.1
        harness.engine.inbox.wake()
        await harness.until(lambda: analysis._analyses["chat"].block_started == harness.now)


async def test_a_candidate_in_the_middle_of_a_step_is_withdrawn_when_it_fails(tmp_path: Path) -> None:
    async with _changed(tmp_path / "state.sqlite") as harness:
        await _fail(harness)
        await harness.phase("RolledBack")
        assert harness.engine.table.get("chat").state.withdrawn == ("v2",)


@pytest.mark.parametrize("withdrawn", [(), ("v2",), ("v9",)])
async def test_a_rollback_with_and_without_a_withdrawal_goes_on(
    tmp_path: Path, withdrawn: tuple[str, ...]
) -> None:
    all_on_v1 = [{"name": "strategy", "segments": [{"variant": "v1", "slots": 10_000}]}]
    before: dict[str, Any] = {
        "phase": "RollingBack",
        "outcome": "Aborted",
        "splits": all_on_v1,
        "converged": False,
    }
    before |= {"withdrawn": withdrawn} if withdrawn else {}
    async with _changed(tmp_path / "state.sqlite", **before) as harness:
        await harness.phase("RolledBack")
        assert harness.engine.table.get("chat").state.withdrawn == withdrawn
        await _fail(harness)
        await harness.until(lambda: "v2" in harness.engine.table.get("chat").state.withdrawn)
        state = harness.engine.table.get("chat").state
        assert (state.withdrawn, state.phase.value) == (tuple(sorted({"v2", *withdrawn})), "RolledBack")
        assert (state.outcome, state.weights) == (Outcome.ABORTED, {})


async def test_the_audit_chain_holds(harness: EngineHarness) -> None:
    entries, breaks = await harness.engine.queries.audit_breaks()
    assert (entries, breaks) == (3, [])


@pytest.mark.parametrize(
    ("file", "flags"), [("bootstrap.yaml", ()), ("bootstrap-sidecar.yaml", ("--mode", "sidecar"))]
)
def test_bootstraps_are_the_same(file: str, flags: tuple[str, ...]) -> None:
    # New bootstraps send statistics every second; those of the release before go on with five.
    command = ["bootstrap", "--group", "chat", "--node-id", "n1", "--stats-interval", "5", *flags]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.output) == yaml.safe_load((DATA / file).read_text())


def test_cli_contexts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFTPLANE_CONFIG", str(DATA / "config.yaml"))
    contexts = load()
    assert contexts.current == "prod"
    assert {name: context.server for name, context in contexts.named.items()} == {
        "prod": "https://shiftplane.example.com",
        "here": "http://127.0.0.1:18001",
    }


def _view(harness: EngineHarness, name: str) -> dict[str, Any]:

    return to_json(harness.engine.queries.view(name))
