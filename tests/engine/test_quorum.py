"""How many of the connected proxies must hold a revision, and when it is reported who is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import CANARY, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.view import Convergence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


@pytest.mark.parametrize(
    ("acked", "connected", "quorum", "reached"),
    [
        (0, 0, 1, False),  # without a connected proxy, no proxy is synced
        (0, 0, 10_000, False),
        (1, 1, 10_000, True),
        (0, 1, 1, False),
        (2, 3, 6_666, True),
        (2, 3, 6_667, False),
        (1, 2, 5_000, True),
        (1, 2, 5_001, False),
        (9_999, 10_000, 10_000, False),
        (9_999, 10_000, 9_999, True),
        (3, 3, 1, True),
    ],
)
def test_a_quorum_is_a_share_of_the_connected_proxies(
    acked: int, connected: int, quorum: int, reached: bool
) -> None:
    found = Convergence(connected=connected, acked=acked, nacked=0, version="v", detail="")
    assert found.reached(quorum) is reached


async def silent_but_one(harness: EngineHarness, quorum: float) -> list[FakeProxy]:
    """Begin a canary that one of three proxies has accepted; the other two do not answer."""
    proxies = [FakeProxy(harness.hub, name) for name in ("one", "two", "three")]
    await harness.apply(route(V1))
    await harness.phase("Healthy")
    for proxy in proxies[1:]:
        proxy.silent = True
    more = f"convergence: {{quorum: {quorum}, timeout: 10s}}"
    await harness.apply(route(V1, V2, CANARY, more=more))
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    return proxies


@pytest.mark.parametrize(("quorum", "enough"), [(66.66, True), (66.67, False), (100, False)])
async def test_a_step_goes_on_with_its_quorum_and_not_before(
    harness: EngineHarness, quorum: float, enough: bool
) -> None:
    _, second, third = await silent_but_one(harness, quorum)
    await harness.ticks()
    assert harness.engine.queries.view("chat").weights["v2"] == 0
    second.silent = False
    second.answer()
    if not enough:
        await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 2)
        await harness.ticks()
        assert harness.engine.queries.view("chat").phase == "Pending"
        assert harness.engine.queries.view("chat").weights["v2"] == 0
        third.silent = False
        third.answer()
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)


async def test_who_is_missing_is_reported_after_the_timeout_of_the_spec(harness: EngineHarness) -> None:
    await silent_but_one(harness, 100)
    published = harness.now
    harness.now = published + 5
    await harness.ticks(2)
    assert harness.engine.queries.view("chat").message == ""
    harness.now = published + 9
    await harness.ticks(2)
    message = harness.engine.queries.view("chat").message
    assert message.startswith("too few proxies are synced: ")
    assert "waiting for proxies three, two" in message
