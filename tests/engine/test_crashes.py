"""A thousand deaths of a control plane in the middle of rollouts: nothing is skipped, nothing is done twice.

A death is sudden: just before or just after something was kept, or between any two steps of the event loop.
What lives on is the file. The proxies come back to whoever opens it next.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.support.plane import route
from tests.support.proxy import FakeProxy
from tests.support.worlds import SCRIPTS
from xds_server.ads import Hub
from xds_server.engine import Action, Caller, CommandRefusedError, Engine
from xds_server.rollout import Phase, SetWeight, State, step
from xds_server.store import Change, ConflictError, SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

DEATHS = 1_000
STEPS = (
    "[{setWeight: 5}, {pause: {duration: 1m}}, {setWeight: 25}, {pause: {duration: 1m}}, {setWeight: 100}]"
)
SPEC = route(
    ("v1", "127.0.0.1:9001"),
    ("v2", "127.0.0.1:9002"),
    f"{{canary: {{steps: {STEPS}, finalBakeTime: 1m}}}}",
)
WEIGHTS = (0, 500, 2_500, 10_000)


class Death(BaseException):
    """The process is gone."""


class Mortal(SqliteStore):
    """A store that dies before or after its `ends`-th change."""

    ends: int = -1
    after: bool = False

    def commit(self, *changes: Change) -> tuple[int, ...]:
        self.ends -= 1
        if self.ends == 0 and not self.after:
            raise Death
        numbers = super().commit(*changes)
        if self.ends == 0:
            raise Death
        return numbers


async def lived(path: Path, now: list[float], chance: random.Random) -> None:
    """Let one control plane live until it dies; time and an operator go on."""
    store = Mortal(path)
    store.ends, store.after = chance.randint(1, 4), chance.random() < 0.5
    engine = Engine(store, SCRIPTS, clock=lambda: now[0])
    hub = Hub(engine.compile)
    engine.attach(hub)
    tasks: list[asyncio.Task[None]] = []
    try:
        await engine.load()
        tasks = [asyncio.create_task(hub.run()), asyncio.create_task(engine.run())]
        FakeProxy(hub)
        await engine.apply(SPEC, file="chat.yaml", by=Caller(actor="test"))
        for _ in range(chance.randint(1, 60)):
            await asyncio.sleep(0)
            if tasks[1].done():
                break
            if chance.random() < 0.2:
                now[0] += chance.choice([1, 30, 61])
                hub.on_change("chat")  # Somebody looks: what is due is due.
            if chance.random() < 0.02:
                await operate(engine, chance)
    except (Death, ConflictError):
        assert store.ends <= 0, "what waited for the lock of the dead comes too late, nothing else does"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        store.close()


async def operate(engine: Engine, chance: random.Random) -> None:
    action = chance.choice(
        [Action.PROMOTE, Action.PAUSE, Action.RESUME, Action.ABORT, Action.RETRY, Action.KILL]
    )
    try:
        await engine.command("chat", action, by=Caller(actor="test", reason="chance"))
        if action is Action.KILL:
            await engine.command("chat", Action.UNKILL, by=Caller(actor="test", reason="chance"))
    except CommandRefusedError:
        return


@pytest.mark.long
async def test_a_thousand_deaths(tmp_path: Path) -> None:
    chance, now, path = random.Random(11), [1_000.0], tmp_path / "state.sqlite"
    finished = 0
    for life in range(DEATHS):
        await lived(path, now, chance)
        store = SqliteStore(path)
        stored = store.load()
        if stored and stored[0].state.phase in {Phase.HEALTHY, Phase.ROLLED_BACK}:
            follow(store, stored[0].state)
            finished += 1
            path.unlink()
            store.close()
            clear(tmp_path)
            continue
        if life % 50 == 0 and stored:
            follow(store, stored[0].state)
        store.close()
    assert finished > 20, "rollouts end although the control plane keeps dying"


def clear(folder: Path) -> None:
    for rest in folder.glob("state.sqlite-*"):
        rest.unlink()


def follow(store: SqliteStore, kept: State) -> None:
    """Replay the history: the same state, each weight entered once and in its order, each gate passed."""
    state: State | None = None
    states: list[State] = []
    for event, at in store.events("chat"):
        before = state
        state, effects = step(state, event, at)
        assert state != before, "nothing is kept that changes nothing"
        assert effects is not None
        states.append(state)
    assert state == kept
    for before, after in pairwise(states):
        assert after.weight in WEIGHTS
        assert after.revision in {before.revision, before.revision + 1}, (
            "no world is published twice or left out"
        )
        if after.weight > before.weight:
            assert WEIGHTS.index(after.weight) == WEIGHTS.index(before.weight) + 1, "no weight is left out"
            steps = [s.weight for s in before.program.steps[: after.step + 1] if isinstance(s, SetWeight)]
            assert steps[-1] == after.weight
            assert before.converged or before.phase is Phase.PENDING, "the gate before it was passed"
