"""Spec → program of steps; the only module of this package that reads the spec."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from xds_server.rollout.slots import FULL
from xds_server.rollout.state import (
    Bake,
    Experiment,
    FixedSplit,
    OnInconclusive,
    Pause,
    Program,
    SetWeight,
    Shadow,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server import spec

__all__ = ["PROMPT_SPLIT", "program", "rule_split_name"]

PROMPT_SPLIT = "prompt"
"""The name of the split of prompt versions."""


def program(route: spec.ModelRoute, *, checked: bool = True) -> Program:
    """Return the program of a spec; `checked` is whether backends are health-checked at all."""
    route_spec = route.spec
    kill = route_spec.kill_switch
    keep_warm = 0.0
    if route_spec.strategy is not None and route_spec.strategy.blue_green is not None:
        keep_warm = route_spec.strategy.blue_green.keep_warm.total_seconds()
    return Program(
        stable=route_spec.stable,
        candidate=route_spec.candidate,
        steps=() if route_spec.strategy is None else tuple(_steps(route_spec.strategy, route_spec.candidate)),
        convergence_timeout=route_spec.convergence.timeout.total_seconds(),
        progress_deadline=route_spec.progress_deadline.total_seconds(),
        spreads=tuple(_spreads(route_spec)),
        serve=kill.serve or route_spec.stable,
        killed=(kill.reason or "the spec sets killSwitch.enabled: true") if kill.enabled else None,
        checked=tuple(sorted(_checked(route_spec))) if checked else (),
        keep_warm=keep_warm,
        requires_verdict=bool(route_spec.analysis.metrics) and not route_spec.analysis.dry_run,
        verdict_timeout=route_spec.analysis.wait_for_verdict.total_seconds(),
        on_inconclusive=OnInconclusive(route_spec.analysis.on_inconclusive),
    )


def rule_split_name(rule: str) -> str:
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
            duration = None if step.pause is None else step.pause.duration
            yield Pause(duration=None if duration is None else duration.total_seconds())
    weights = canary.step_weights or ()
    for place, weight in enumerate(weights):
        yield SetWeight(weight=weight)
        if canary.interval is not None and place < len(weights) - 1:
            yield Pause(duration=canary.interval.total_seconds())
    yield from _bake(canary.final_bake_time.total_seconds())


def _growth(growth: spec.GrowthSpec) -> Iterator[Step]:
    """Yield the steps of a growth strategy: weights up to 100 %, at equal intervals."""
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


def _spreads(route_spec: spec.RouteSpec) -> Iterator[FixedSplit]:
    for rule in route_spec.targeting.rules:
        if isinstance(rule.serve, str):
            continue
        shares = rule.serve.weights
        base = route_spec.stable if route_spec.stable in shares else next(iter(shares))
        yield _spread(rule_split_name(rule.name), base, shares)
    if route_spec.prompt is not None:
        rollout = route_spec.prompt.rollout
        yield _spread(
            PROMPT_SPLIT, route_spec.prompt.default or "", {} if rollout is None else rollout.weights
        )


def _spread(name: str, base: str, shares: dict[str, int]) -> FixedSplit:
    return FixedSplit(name=name, base=base, weights=tuple((v, s) for v, s in shares.items() if v != base))


def _checked(route_spec: spec.RouteSpec) -> set[str]:
    """Return the health-checked backends other than the stable one that may serve users."""
    used = {route_spec.candidate}
    if route_spec.strategy is not None and route_spec.strategy.ab_test is not None:
        used |= {variant.backend for variant in route_spec.strategy.ab_test.variants}
    used |= {target.serve for target in route_spec.targeting.targets}
    for rule in route_spec.targeting.rules:
        used |= {rule.serve} if isinstance(rule.serve, str) else set(rule.serve.weights)
    return {
        backend.name
        for backend in route_spec.backends
        if backend.name in used and backend.name != route_spec.stable and backend.health_check.enabled
    }
