"""Drives one rollout through the state machine; its clock is a number that the test sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xds_server.rollout import (
    Action,
    Bake,
    Command,
    Converged,
    Effect,
    Event,
    NotConverged,
    Pause,
    Phase,
    Program,
    SetWeight,
    Shadow,
    SpecAccepted,
    State,
    Step,
    Tick,
    step,
)

__all__ = ["CANARY", "RolloutDriver", "in_phase", "program", "started"]

CANARY: tuple[Step, ...] = (
    SetWeight(weight=500),
    Pause(duration=60.0),
    SetWeight(weight=2_500),
    Pause(duration=None),
    SetWeight(weight=10_000),
    Bake(duration=30.0),
)


def program(*steps: Step, stable: str = "v1", candidate: str | None = "v2", **more: Any) -> Program:
    return Program(
        stable=stable,
        candidate=candidate,
        steps=steps,
        convergence_timeout=10.0,
        progress_deadline=100.0,
        **more,
    )


@dataclass
class RolloutDriver:
    now: float = 1_000.0
    current: State | None = None
    effects: list[Effect] = field(default_factory=list)

    @property
    def state(self) -> State:
        assert self.current is not None
        return self.current

    def send(self, event: Event) -> tuple[Effect, ...]:
        self.current, effects = step(self.current, event, self.now)
        self.effects.extend(effects)
        return effects

    def spec(self, what: Program, digest: str = "d1") -> tuple[Effect, ...]:
        return self.send(SpecAccepted(route="chat", program=what, digest=digest, actor="test"))

    def converge(self, acked: int = 2) -> tuple[Effect, ...]:
        return self.send(Converged(revision=self.state.revision, acked=acked, connected=2))

    def command(self, kind: Action, reason: str = "why") -> tuple[Effect, ...]:
        return self.send(Command(command=kind, actor="test", reason=reason))

    def wait(self, seconds: float, *, synced: bool = True) -> tuple[Effect, ...]:
        self.now += seconds
        return self.send(Tick(synced=synced))

    def assert_state(self, phase: Phase, weight: int, mirror: int = 0) -> None:
        assert (self.state.phase, self.state.weight, self.state.mirror) == (phase, weight, mirror)


def started(*steps: Step) -> RolloutDriver:
    driver = RolloutDriver()
    driver.spec(program(*(steps or CANARY)))
    return driver


def in_phase(phase: Phase) -> RolloutDriver:
    """Return a rollout in the given active phase."""
    driver = started(Shadow(percentage=2_000, duration=None)) if phase is Phase.SHADOWING else started()
    if phase is Phase.PENDING:
        return driver
    driver.converge()
    if phase in {Phase.SHADOWING, Phase.PROGRESSING}:
        return driver
    if phase is Phase.DEGRADED:
        driver.now += 200
        driver.send(NotConverged(revision=driver.state.revision, refused=False, detail="waiting for b"))
        return driver
    if phase is Phase.PAUSED:
        driver.command(Action.PAUSE)
        return driver
    driver.converge()
    driver.wait(61)
    driver.converge()
    driver.command(Action.PROMOTE)
    driver.converge()
    return driver
