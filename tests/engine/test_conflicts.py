"""A commit that succeeded but reported an error: the store is right, and proxies get what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import CANARY, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.analysis.counts import Counts, Leg
from xds_server.engine import Action, Caller
from xds_server.store import ConflictError, SqliteStore, StoreError
from xds_server.xds.snapshot import RUNTIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from xds_server.store import Change

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
ANALYSIS = "\n  analysis:\n    interval: 1s\n    metrics: [{name: success-rate}]\n"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as running:
        yield running


def killed(proxy: FakeProxy) -> bool:
    return b"shiftplane.chat.kill" in proxy.held.get(RUNTIME, {}).get("shiftplane", b"")


async def command_with_a_late_error(
    harness: EngineHarness, action: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the store commit a command and report an error nevertheless."""
    commit = SqliteStore.commit

    def late(store: SqliteStore, *changes: Change) -> tuple[int, ...]:
        commit(store, *changes)
        raise StoreError("the disk reported an error after the commit")

    by = Caller(actor="ada", reason="v2 leaks")
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "commit", late)
        with pytest.raises(StoreError, match="after the commit"):
            await harness.engine.routes.command("chat", action, by=by)


async def test_a_stored_kill_reaches_the_proxies_after_a_conflict(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: "pause" in harness.engine.queries.view("chat").events[-1].message)
    await command_with_a_late_error(harness, Action.KILL, monkeypatch)
    assert not killed(proxy)
    with pytest.raises(ConflictError):
        await harness.act(Action.PROMOTE)
    assert harness.engine.queries.view("chat").phase == "Killed"
    await harness.until(lambda: killed(proxy))


async def test_evidence_counts_once_after_a_conflict(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY, more=ANALYSIS))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    counts = {CANDIDATE: Counts(requests=100, failed=1), CONTROL: Counts(requests=900, failed=5)}
    harness.engine.analysis.count_from_proxy("chat", counts)
    harness.now += 1.1
    harness.engine.inbox.wake()
    await harness.until(lambda: requests(harness) == 100)
    await harness.until(lambda: len(harness.store.blocks("chat", 10)) == 1)
    await command_with_a_late_error(harness, Action.PAUSE, monkeypatch)
    with pytest.raises(ConflictError):
        await harness.act(Action.PROMOTE)
    assert requests(harness) == 100


async def test_a_route_that_another_process_deleted_is_removed_after_a_conflict(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1))
    await harness.phase("Healthy")
    other = SqliteStore(harness.path)
    other.delete("chat", audit_event=Caller(actor="ada").audit_event("delete", "chat", 1_000.0))
    other.close()
    with pytest.raises(ConflictError):
        await harness.apply(route(V1, V2, CANARY))
    assert harness.engine.queries.names() == []


def requests(harness: EngineHarness) -> int:
    """Return the candidate's requests in the newest analysis result."""
    result = harness.engine.analysis.result("chat")
    candidates = [] if result is None else [metric.candidate for metric in result.metrics]
    return sum(candidate.n for candidate in candidates if candidate is not None)
