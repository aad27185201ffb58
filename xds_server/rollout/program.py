"""Spec → program: the only place where the machine meets the spec."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from xds_server.rollout.slots import FULL
from xds_server.rollout.state import (
    Bake,
    Experiment,
    Pause,
    Program,
    SetWeight,
    Shadow,
    Spread,
    Step,
    Undecided,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server import spec

__all__ = ["PROMPT", "program", "rule_split"]

PROMPT = "prompt"
"""The name of the split between prompt versions."""


def program(route: spec.ModelRoute, *, checked: bool = True) -> Program:
    """Return what a spec asks of the rollout; with `checked`, somebody asks backends for their health."""
    wanted = route.spec
    kill = wanted.kill_switch
    keep_warm = 0.0
    if wanted.strategy is not None and wanted.strategy.blue_green is not None:
        keep_warm = wanted.strategy.blue_green.keep_warm.total_seconds()
    return Program(
        stable=wanted.stable,
        candidate=wanted.candidate,
        steps=() if wanted.strategy is None else tuple(_steps(wanted.strategy, wanted.candidate)),
        convergence_timeout=wanted.convergence.timeout.total_seconds(),
        progress_deadline=wanted.progress_deadline.total_seconds(),
        spreads=tuple(_spreads(wanted)),
        serve=kill.serve or wanted.stable,
        killed=(kill.reason or "the spec says so") if kill.enabled else None,
        checked=tuple(sorted(_checked(wanted))) if checked else (),
        keep_warm=keep_warm,
        judged=bool(wanted.analysis.metrics) and not wanted.analysis.dry_run,
        patience=wanted.analysis.wait_for_verdict.total_seconds(),
        undecided=Undecided(wanted.analysis.on_inconclusive),
    )


def rule_split(rule: str) -> str:
    """Return the name of the split of a targeting rule."""
    return f"rule/{rule}"


def _steps(strategy: spec.Strategy, candidate: str | None) -> Iterator[Step]:
    if strategy.ab_test is not None:
        yield _experiment(strategy.ab_test)
    if candidate is None:
        return
    if strategy.shadow is not None:
        yield _shadow(strategy.shadow)
    if strategy.blue_green is not None:
        yield from _preview(strategy.blue_green)
        if strategy.canary is None:
            yield SetWeight(weight=FULL)
    if strategy.canary is not None:
        yield from _canary(strategy.canary)
    if strategy.growth is not None:
        yield from _growth(strategy.growth)
    if strategy.all_at_once is not None:
        yield SetWeight(weight=FULL)
        yield from _bake(strategy.all_at_once.final_bake_time.total_seconds())


def _preview(blue_green: spec.BlueGreen) -> Iterator[Step]:
    after = blue_green.auto_promotion_after.total_seconds()
    if not blue_green.auto_promotion_enabled:
        yield Pause(duration=None)
    elif after:
        yield Pause(duration=after)


def _shadow(shadow: spec.Shadow) -> Shadow:
    return Shadow(
        percentage=shadow.percentage,
        duration=None if shadow.duration is None else shadow.duration.total_seconds(),
        min_pairs=None if shadow.promotion is None else shadow.promotion.min_pairs,
        tokens_per_second=shadow.max_tokens_per_second,
        required=shadow.required,
    )


def _experiment(test: spec.AbTest) -> Experiment:
    return Experiment(
        weights=tuple((variant.backend, variant.weight) for variant in test.variants),
        duration=None if test.max_duration is None else test.max_duration.total_seconds(),
        back=test.on_complete == "Control",
    )


def _canary(canary: spec.Canary) -> Iterator[Step]:
    for step in canary.steps or ():
        if step.set_weight is not None:
            yield SetWeight(weight=step.set_weight)
        else:
            length = None if step.pause is None else step.pause.duration
            yield Pause(duration=None if length is None else length.total_seconds())
    weights = canary.step_weights or ()
    for place, weight in enumerate(weights):
        yield SetWeight(weight=weight)
        if canary.interval is not None and place < len(weights) - 1:
            yield Pause(duration=canary.interval.total_seconds())
    yield from _bake(canary.final_bake_time.total_seconds())


def _growth(growth: spec.GrowthSpec) -> Iterator[Step]:
    """Yield the steps of a growth: as many as it takes to reach everybody, evenly spread."""
    linear = growth.growth_type == "Linear"
    weights: list[int] = []
    for number in count():
        grown = growth.growth_factor * (number + 1 if linear else 1 << number)
        weights.append(min(FULL, grown))
        if grown >= FULL:
            break
    interval = growth.deployment_duration.total_seconds() / len(weights)
    for weight in weights:
        yield SetWeight(weight=weight)
        if interval:
            yield Pause(duration=interval)
    yield from _bake(growth.final_bake_time.total_seconds())


def _bake(seconds: float) -> Iterator[Step]:
    if seconds > 0:
        yield Bake(duration=seconds)


def _spreads(wanted: spec.RouteSpec) -> Iterator[Spread]:
    for rule in wanted.targeting.rules:
        if isinstance(rule.serve, str):
            continue
        shares = rule.serve.weights
        base = wanted.stable if wanted.stable in shares else next(iter(shares))
        yield _spread(rule_split(rule.name), base, shares)
    if wanted.prompt is not None:
        rollout = wanted.prompt.rollout
        yield _spread(PROMPT, wanted.prompt.default or "", {} if rollout is None else rollout.weights)


def _spread(name: str, base: str, shares: dict[str, int]) -> Spread:
    return Spread(name=name, base=base, weights=tuple((v, s) for v, s in shares.items() if v != base))


def _checked(wanted: spec.RouteSpec) -> set[str]:
    """Return the backends beside the stable one that users may be sent to, and whose health is asked for."""
    used = {wanted.candidate}
    if wanted.strategy is not None and wanted.strategy.ab_test is not None:
        used |= {variant.backend for variant in wanted.strategy.ab_test.variants}
    used |= {target.serve for target in wanted.targeting.targets}
    for rule in wanted.targeting.rules:
        used |= {rule.serve} if isinstance(rule.serve, str) else set(rule.serve.weights)
    return {
        backend.name
        for backend in wanted.backends
        if backend.name in used and backend.name != wanted.stable and backend.health_check.enabled
    }
