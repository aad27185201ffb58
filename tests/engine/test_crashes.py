"""A thousand crashes of a control plane in the middle of rollouts: no step is skipped or done twice.

A crash happens just before or just after a commit, or between any two steps of the event loop. Only the file
survives; the proxies connect to the next process that opens it.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.support.clock import ManualClock
from tests.support.configs import SCRIPTS
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.engine import Action, Caller, CommandRefusedError, Engine, build_engine
from xds_server.rollout import Phase, SetWeight, State, step
from xds_server.store import Change, ConflictError, SqliteStore
from xds_server.xds.server import Hub

if TYPE_CHECKING:
    from pathlib import Path

CRASHES = 1_000
STEPS = (
    "[{setWeight: 5}, {pause: {duration: 1m}}, {setWeight: 25}, {pause: {duration: 1m}}, {setWeight: 100}]"
)
SPEC = route(
    ("v1", "127.0.0.1:9001"),
    ("v2", "127.0.0.1:9002"),
    f"{{canary: {{steps: {STEPS}, finalBakeTime: 1m}}}}",
)
WEIGHTS = (0, 500, 2_500, 10_000)


class Crash(BaseException):
    """The process ends without any cleanup."""


class CrashingStore(SqliteStore):
    """A store that crashes before or after its `ends`-th commit."""

    ends: int = -1
    after: bool = False

    def commit(self, *changes: Change) -> tuple[int, ...]:
        self.ends -= 1
        if self.ends == 0 and not self.after:
            raise Crash
        numbers = super().commit(*changes)
        if self.ends == 0:
            raise Crash
        return numbers


async def run_until_death(path: Path, now: list[float], chance: random.Random) -> None:
    """Run one control plane until it crashes, while time passes and an operator gives commands."""
    store = CrashingStore(path)
    store.ends, store.after = chance.randint(1, 4), chance.random() < 0.5
    engine, hub = build_engine(store, SCRIPTS, Hub, clock=ManualClock(lambda: now[0]))
    tasks: list[asyncio.Task[None]] = []
    try:
        await engine.committer.load()
        tasks = [asyncio.create_task(hub.run()), asyncio.create_task(engine.reconciler.run())]
        FakeProxy(hub)
        await engine.routes.apply(SPEC, file="chat.yaml", by=Caller(actor="test"))
        for _ in range(chance.randint(1, 60)):
            await asyncio.sleep(0)
            if tasks[1].done():
                break
            if chance.random() < 0.2:
                now[0] += chance.choice([1, 30, 61])
                engine.inbox.group_changed("chat")  # Starts a pass, in which everything due happens.
            if chance.random() < 0.02:
                await operate(engine, chance)
    except (Crash, ConflictError):
        assert store.ends <= 0, "only a command that waited for the crashed writer may conflict"
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
        await engine.routes.command("chat", action, by=Caller(actor="test", reason="chance"))
        if action is Action.KILL:
            await engine.routes.command("chat", Action.UNKILL, by=Caller(actor="test", reason="chance"))
    except CommandRefusedError:
        return


@pytest.mark.long
async def test_a_thousand_crashes(tmp_path: Path) -> None:
    chance, now, path = random.Random(11), [1_000.0], tmp_path / "state.sqlite"
    finished = 0
    for attempt in range(CRASHES):
        await run_until_death(path, now, chance)
        store = SqliteStore(path)
        stored = store.load()
        if stored and stored[0].state.phase in {Phase.HEALTHY, Phase.ROLLED_BACK}:
            replay_events(store, stored[0].state)
            finished += 1
            path.unlink()
            store.close()
            clear(tmp_path)
            continue
        if attempt % 50 == 0 and stored:
            replay_events(store, stored[0].state)
        store.close()
    assert finished > 20, "rollouts finish although the control plane keeps crashing"


def clear(folder: Path) -> None:
    for rest in folder.glob("state.sqlite-*"):
        rest.unlink()


def replay_events(store: SqliteStore, stored: State) -> None:
    """Check that the history replays to the stored state, with each weight once and in order."""
    state: State | None = None
    states: list[State] = []
    for event, at in store.events("chat"):
        before = state
        state, effects = step(state, event, at)
        assert state != before, "every stored event changes the state"
        assert effects is not None
        states.append(state)
    assert state == stored
    for before, after in pairwise(states):
        assert after.weight in WEIGHTS
        assert after.revision in {before.revision, before.revision + 1}, (
            "every snapshot is published exactly once"
        )
        if after.weight > before.weight:
            assert WEIGHTS.index(after.weight) == WEIGHTS.index(before.weight) + 1, "no weight is skipped"
            steps = [s.weight for s in before.program.steps[: after.step + 1] if isinstance(s, SetWeight)]
            assert steps[-1] == after.weight
            assert before.converged or before.phase is Phase.PENDING, "the gate before it was passed"
