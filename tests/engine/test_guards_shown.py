"""Guards of a running engine in the route view: of candidates, and of backends with users by targeting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import V1, V2, EngineHarness, running_engine
from tests.engine.test_evidence import CANDIDATE, CONTROL, block_began, canary_at_five_percent
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.analysis.counts import Counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from xds_server.view import GuardView

TARGET = "targeting: {targets: [{attribute: user.id, values: [ada], serve: v2}]}"
FINE, REJECTED = Counts(requests=900, answers=900), Counts(requests=100, rejected=100)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


async def count(harness: EngineHarness, candidate: Counts, *, blocks: int = 5) -> None:
    for _ in range(blocks):
        harness.engine.analysis.count_from_proxy("chat", {CANDIDATE: candidate, CONTROL: FINE})
        harness.now += 1.1
        harness.engine.inbox.wake()
        await harness.until(lambda: block_began(harness) == harness.now)


def guards(harness: EngineHarness) -> dict[str, GuardView]:
    found = harness.engine.queries.view("chat").analysis
    return {} if found is None else {guard.name: guard for guard in found.guards}


async def test_a_guard_that_only_notifies_is_shown_as_failed_and_moves_no_users(
    harness: EngineHarness,
) -> None:
    await canary_at_five_percent(harness, "analysis: {interval: 1s, guards: {rejected: Notify}}")
    assert harness.engine.queries.view("chat").analysis is None
    await count(harness, REJECTED)
    found = guards(harness)["rejected"]
    assert (found.variant, found.finding, found.action) == ("v2", "Fail", "Notify")
    assert found.candidate is not None
    assert found.candidate["n"] == 500
    assert harness.engine.queries.view("chat").weights["v2"] == 5


async def test_a_guard_that_rolled_back_is_still_shown(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, "analysis: {interval: 1s}")
    await count(harness, REJECTED)
    await harness.phase("RolledBack")
    await count(harness, Counts(), blocks=3)
    assert guards(harness)["rejected"].finding == "Fail"


async def test_a_withdrawn_backend_is_shown_with_its_reason_until_the_next_spec(
    harness: EngineHarness,
) -> None:
    FakeProxy(harness.hub)
    text = route(V1, V2, more=f"{TARGET}\n  analysis: {{interval: 1s}}")
    await harness.apply(text)
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    await count(harness, REJECTED)
    await harness.until(lambda: harness.engine.queries.view("chat").withdrawn == ("v2",))
    await count(harness, Counts(), blocks=3)
    assert guards(harness)["rejected"].finding == "Fail"
    await harness.apply(text.replace("[ada]", "[bob]"))
    await harness.until(lambda: harness.engine.queries.view("chat").withdrawn == ())
    await count(harness, Counts(requests=100, answers=100), blocks=2)
    assert guards(harness)["rejected"].finding != "Fail"
