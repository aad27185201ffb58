"""What operators do beside promoting: kill, undo, retry; what is remembered, and what proxies are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.house import CANARY, V1, V2, House, living
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.access.audit import Outcome
from xds_server.engine import Action, Caller, CommandRefusedError
from xds_server.engine.live import allowed
from xds_server.rollout import Health
from xds_server.xds.snapshot import CLUSTER, ROUTE, RUNTIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path / "state.sqlite") as alive:
        yield alive


def killed(proxy: FakeProxy) -> bool:
    """Whether the layer that the proxy holds says so."""
    return b"shiftplane.chat.kill" in proxy.held.get(RUNTIME, {}).get("shiftplane", b"")


async def test_a_kill_changes_the_runtime_layer_and_nothing_else(house: House) -> None:
    proxy = FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    await house.until(lambda: house.engine.view("chat").convergence.acked == 1)
    before = {kind: dict(held) for kind, held in proxy.held.items() if kind != RUNTIME}
    await house.engine.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
    await house.until(lambda: killed(proxy))
    await house.until(lambda: house.engine.view("chat").message.startswith("killed: 1 of 1"))
    assert {kind: held for kind, held in proxy.held.items() if kind != RUNTIME} == before
    await house.engine.command("chat", Action.UNKILL, by=Caller(actor="ada", reason="mended"))
    await house.until(lambda: not killed(proxy))
    assert house.engine.view("chat").weights == {"v1": 95.0, "v2": 5.0}


async def test_a_kill_gets_past_a_version_that_was_refused(house: House) -> None:
    proxies = [FakeProxy(house.hub, f"proxy-{n}") for n in range(8)]
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    await house.until(lambda: house.engine.view("chat").convergence.acked == 8)
    for proxy in proxies:
        proxy.refuse = {CLUSTER}
    await house.apply(route(V1, ("v2", "127.0.0.1:9009"), CANARY))
    await house.apply(route(("v1", "127.0.0.1:9004"), V2, CANARY, more="timeouts: {connect: 3s}"))
    await house.until(lambda: house.engine.view("chat").convergence.nacked > 0)
    await house.engine.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
    await house.until(lambda: all(killed(proxy) for proxy in proxies))
    await house.until(
        lambda: (
            "8 of 8 hold the newest runtime layer, kills included"
            in house.engine.view("chat").convergence.detail
        )
    )
    late = FakeProxy(house.hub, "late")
    await house.until(lambda: killed(late) and ROUTE in late.held)


async def test_undo_to_an_earlier_spec_is_a_new_generation(house: House) -> None:
    FakeProxy(house.hub)
    await house.apply(route(V1))
    await house.phase("Healthy")
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").weights.get("v2") == 5)
    with pytest.raises(CommandRefusedError, match=r"no generation 7 .* there are 1, 2"):
        await house.engine.undo_to("chat", 7, by=Caller(actor="ada"))
    with pytest.raises(CommandRefusedError, match="at generation 2 already"):
        await house.engine.undo_to("chat", 2, by=Caller(actor="ada"))
    tried = [(e.deed.action, e.deed.outcome) for e in await house.engine.audit(2)]
    assert tried == [("undo", Outcome.REFUSED)] * 2
    view = await house.engine.undo_to("chat", 1, by=Caller(actor="ada", reason="v2 is worse"))
    assert (view.generation, view.candidate, view.weights) == (3, None, {"v1": 100.0})
    await house.phase("Healthy")
    (last,) = await house.engine.audit(1)
    assert (last.deed.actor, last.deed.action, last.deed.reason) == (
        "ada",
        "undo",
        "undo to generation 1: v2 is worse",
    )


async def test_the_audit_says_who_did_what_and_why_also_of_routes_that_are_gone(house: House) -> None:
    FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    await house.engine.command("chat", Action.ABORT, by=Caller(actor="ada", reason="worse answers"))
    await house.engine.delete("chat", by=Caller(actor="bob"))
    found = [(e.deed.actor, e.deed.action, e.deed.reason) for e in await house.engine.audit(10)]
    assert found == [("test", "apply", ""), ("ada", "abort", "worse answers"), ("bob", "delete", "")]
    assert await house.engine.audit(10, "other") == []


async def test_what_may_be_done_is_found_out_once_per_state(house: House) -> None:
    FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: "pause" in house.engine.view("chat").events[-1].message)
    before = house.engine.view("chat").actions
    assert {"promote", "pause", "abort", "kill"} <= set(before), before
    house.now += 600  # The pause lasts an hour; time alone allows nothing.
    assert allowed(house.engine._live("chat").state, house.now) == before
    assert house.engine.view("chat").actions is before
    await house.act(Action.PAUSE)
    assert "resume" in house.engine.view("chat").actions


async def test_history_says_how_it_stood_after_each_transition(house: House) -> None:
    FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    events = await house.engine.events("chat", 10)
    began = next(event for event in events if event.kind == "step_began")
    assert (began.phase, began.generation, began.revision) == ("Progressing", 1, 2)
    assert began.weights == {"v2": 5.0}


async def test_an_edit_beside_a_run_is_silent_when_it_changes_nothing(house: House) -> None:
    FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY))
    # The step is held and its pause has begun: nothing more happens by itself.
    await house.until(lambda: "pause" in house.engine.view("chat").events[-1].message)
    before = await house.engine.events("chat", 100)
    assert await house.apply("# a comment\n" + route(V1, V2, CANARY)) == "unchanged"
    assert await house.engine.events("chat", 100) == before


async def test_candidates_wait_for_life_and_their_death_is_taken_back(tmp_path: Path) -> None:
    watched: list[Any] = []
    async with living(tmp_path / "state.sqlite", checks_health=True) as house:
        house.engine.on_watched = watched.append
        FakeProxy(house.hub)
        await house.apply(route(V1, V2, CANARY))
        (asked,) = watched[-1]
        assert (asked.route, asked.backend, asked.target.endpoints) == ("chat", "v2", (("127.0.0.1", 9002),))
        assert asked.control.endpoints == (("127.0.0.1", 9001),)
        await house.until(lambda: "not seen healthy" in house.engine.view("chat").message)
        house.engine.note_health("chat", Health(backend="v2", healthy=1, total=1))
        await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
        house.engine.note_health("chat", Health(backend="v2", healthy=0, total=1, detail="refused"))
        await house.phase("RolledBack")
        view = house.engine.view("chat")
        assert (view.outcome, view.dead) == ("RolledBack", ("v2",))


async def test_a_shadow_is_followed_by_its_canary_once_pairs_are_there(tmp_path: Path) -> None:
    found: dict[str, Any] = {"pairs": 10}
    both = (
        "{shadow: {percentage: 20, promotion: {minPairs: 5}}, "
        "canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
    )
    async with living(tmp_path / "state.sqlite", summary=lambda *_: found) as house:
        FakeProxy(house.hub)
        await house.apply(route(V1, V2, both))
        await house.phase("Shadowing")
        await house.until(lambda: house.engine.view("chat").convergence.acked == 1)
        house.now += 5
        found["pairs"] = 14
        house.now += 5
        assert house.engine.view("chat").phase == "Shadowing"
        found["pairs"] = 15
        house.now += 5
        await house.phase("Paused")
        assert house.engine.view("chat").weights["v2"] == 5
