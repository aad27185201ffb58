"""Spec → program: the only place where the machine meets the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server.rollout.state import Bake, Pause, Program, SetWeight, Shadow, Step

if TYPE_CHECKING:
    from xds_server import spec

__all__ = ["program"]


def program(route: spec.ModelRoute) -> Program:
    """Return what a checked spec asks of the rollout."""
    wanted = route.spec
    return Program(
        stable=wanted.stable,
        candidate=wanted.candidate,
        steps=tuple(_steps(wanted.strategy)) if wanted.candidate is not None else (),
        convergence_timeout=wanted.convergence.timeout.total_seconds(),
        progress_deadline=wanted.progress_deadline.total_seconds(),
    )


def _steps(strategy: spec.Strategy | None) -> list[Step]:
    if strategy is None:
        return []
    if strategy.shadow is not None:
        duration = strategy.shadow.duration
        return [
            Shadow(
                percentage=strategy.shadow.percentage,
                duration=None if duration is None else duration.total_seconds(),
            )
        ]
    if strategy.canary is None:
        return []
    steps: list[Step] = []
    for step in strategy.canary.steps:
        if step.set_weight is not None:
            steps.append(SetWeight(weight=step.set_weight))
        else:
            length = None if step.pause is None else step.pause.duration
            steps.append(Pause(duration=None if length is None else length.total_seconds()))
    bake = strategy.canary.final_bake_time.total_seconds()
    return [*steps, Bake(duration=bake)] if bake > 0 else steps
