"""The routes of one spec, in the order in which a proxy asks them.

Kill switch, then targets, then rules, then the preview of a blue-green, then the strategy: its sampled route
first, whose requests are copied, and last the one that takes whatever is left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from xds_server import ir, rollout
from xds_server.plan.attributes import conditions, header_of, private_headers
from xds_server.plan.clusters import hop_name, noise_name, shadow_name, shadow_of, variant_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server.plan.traffic import Traffic
    from xds_server.spec import ModelRoute, RouteSpec, Serve, Shadow, Stickiness

__all__ = ["mirror_routes", "routes"]

_MODES: Final = {
    "Insert": ir.PromptMode.INSERT,
    "Replace": ir.PromptMode.REPLACE,
    "Append": ir.PromptMode.APPEND,
}


def routes(item: Traffic, *, captured: bool) -> Iterator[ir.Route]:
    """Yield the entry listener's routes; with `captured`, somebody takes captured legs."""
    plain = _plain(item)
    yield _kill(item, plain)
    yield from _targets(item, plain)
    yield from _rules(item, plain)
    yield from _preview(item, plain)
    exposed = replace(plain, capture=_exposure(item.route) if captured else None)
    yield from _sampled(item, exposed, captured=captured)
    yield exposed


def mirror_routes(item: Traffic, *, captured: bool) -> Iterator[ir.MirrorRoute]:
    """Yield the hop listener's routes: where copies go."""
    shadow, candidate = shadow_of(item.route), item.route.spec.candidate
    if shadow is None or candidate is None:
        return
    stable = item.route.spec.stable
    ends = [(ir.Role.SHADOW, candidate, shadow_name(item.route, candidate))]
    if shadow.compare.noise_baseline is not None:
        ends.append((ir.Role.NOISE, stable, noise_name(item.route, stable)))
    for role, variant, cluster in ends:
        leg = f"{item.route.metadata.name}/{role.value}"
        yield ir.MirrorRoute(
            name=leg,
            leg=leg,
            arm=ir.Arm(cluster=cluster, variant=variant, weight=ir.FULL, model=_models(item.route)[variant]),
            capture=_capture(item.route, role) if captured else None,
            timeout=shadow.limits.timeout.total_seconds(),
        )


def _plain(item: Traffic) -> ir.Route:
    spec, name = item.route.spec, item.route.metadata.name
    return ir.Route(
        name=name,
        route=name,
        split=rollout.STRATEGY_SPLIT,
        path=ir.PathMatch(prefix=spec.match.path.prefix, exact=spec.match.path.exact),
        arms=_arms(item.route, item.segments(rollout.STRATEGY_SPLIT)),
        stickiness=_sticky(item.route, _stickiness(spec), name),
        prompt=_prompt(item),
        timeout=None if spec.timeouts.request is None else spec.timeouts.request.total_seconds(),
        idle_timeout=spec.timeouts.idle.total_seconds(),
        retries=spec.retries,
        response_headers=spec.response_headers,
        private=private_headers(item.route),
    )


def _kill(item: Traffic, plain: ir.Route) -> ir.Route:
    """Return the route that takes nobody until it takes everybody."""
    return replace(
        plain,
        name=f"{plain.name}/killed",
        split="killed",
        gate=ir.RuntimeFraction(
            key=f"shiftplane.{plain.name}.kill", default=0, now=ir.FULL if item.killed else 0
        ),
        arms=_whole(item.route, item.route.spec.kill_switch.serve or item.route.spec.stable),
        stickiness=None,
        prompt=None,
    )


def _targets(item: Traffic, plain: ir.Route) -> Iterator[ir.Route]:
    for number, target in enumerate(item.route.spec.targeting.targets):
        yield replace(
            plain,
            name=f"{plain.name}/target/{number}",
            split=f"target/{number}",
            conditions=(
                ir.Condition(
                    header=header_of(item.route, target.attribute), op=ir.Op.EQUALS, values=target.values
                ),
            ),
            arms=_whole(item.route, _alive(item, target.serve)),
            stickiness=None,
        )


def _rules(item: Traffic, plain: ir.Route) -> Iterator[ir.Route]:
    route = item.route
    for rule in route.spec.targeting.rules:
        split = rollout.rule_split_name(rule.name)
        if isinstance(rule.serve, str):
            arms, sticky = _whole(route, _alive(item, rule.serve)), None
        else:
            living = (
                rollout.Segment(variant=_alive(item, segment.variant), slots=segment.slots)
                for segment in item.segments(split)
            )
            arms = _arms(route, living)
            wanted = _rule_stickiness(route.spec, rule.serve)
            sticky = _sticky(route, wanted, f"{route.metadata.name}/{split}")
        yield replace(
            plain,
            name=f"{plain.name}/{split}",
            split=split,
            conditions=conditions(route, rule.clauses),
            arms=arms,
            stickiness=sticky,
        )


def _preview(item: Traffic, plain: ir.Route) -> Iterator[ir.Route]:
    spec = item.route.spec
    strategy = None if spec.strategy is None else spec.strategy.blue_green
    if strategy is None or not strategy.preview_match or spec.candidate is None:
        return
    yield replace(
        plain,
        name=f"{plain.name}/preview",
        split="preview",
        conditions=conditions(item.route, strategy.preview_match),
        arms=_whole(item.route, spec.candidate),
        stickiness=None,
    )


def _sampled(item: Traffic, plain: ir.Route, *, captured: bool) -> Iterator[ir.Route]:
    shadow = shadow_of(item.route)
    if shadow is None or item.mirror <= 0:
        return
    clauses = conditions(item.route, shadow.match)
    capture = _capture(item.route, ir.Role.PRIMARY) if captured else None
    baseline = shadow.compare.noise_baseline
    if baseline is not None:
        # Before the other, and by the same number a proxy draws for each request: whoever is asked thrice is
        # one of those who are asked twice.
        yield replace(
            plain,
            name=f"{plain.name}/sampled/noise",
            conditions=clauses,
            gate=ir.RuntimeFraction(
                key=f"shiftplane.{plain.name}.noise",
                default=_part(shadow.percentage, baseline.percentage),
                now=_part(item.mirror, baseline.percentage),
            ),
            mirrors=(
                _mirror(item, shadow, ir.Role.SHADOW),
                _mirror(item, shadow, ir.Role.NOISE),
            ),
            capture=None if capture is None else replace(capture, noise=True),
        )
    yield replace(
        plain,
        name=f"{plain.name}/sampled",
        conditions=clauses,
        gate=ir.RuntimeFraction(
            key=f"shiftplane.{plain.name}.shadow", default=shadow.percentage, now=item.mirror
        ),
        mirrors=(_mirror(item, shadow, ir.Role.SHADOW),),
        capture=capture,
    )


def _part(share: int, percentage: int) -> int:
    """Return a part of a share, in basis points; a small one is not lost to rounding."""
    return max(1, share * percentage // ir.FULL)


def _mirror(item: Traffic, shadow: Shadow, role: ir.Role) -> ir.Mirror:
    return ir.Mirror(
        cluster=hop_name(item.route),
        leg=f"{item.route.metadata.name}/{role.value}",
        max_request_bytes=shadow.limits.max_request_size,
    )


def _alive(item: Traffic, variant: str) -> str:
    """Return the variant, or the stable one where it has no living endpoint."""
    return item.route.spec.stable if variant in item.dead else variant


def _models(route: ModelRoute) -> dict[str, str | None]:
    """Return the model name each backend's leg must carry; None leaves bodies alone.

    As soon as one leg is rewritten all of them are: the copy of a request is made after its primary was
    rewritten, so each leg has to say its own name.
    """
    overridden = any(backend.model_name_override is not None for backend in route.spec.backends)
    return {
        backend.name: backend.model_name_override or (route.spec.model if overridden else None)
        for backend in route.spec.backends
    }


def _whole(route: ModelRoute, variant: str) -> tuple[ir.Arm, ...]:
    return _arms(route, [rollout.Segment(variant=variant, slots=ir.FULL)])


def _arms(route: ModelRoute, segments: Iterable[rollout.Segment]) -> tuple[ir.Arm, ...]:
    models = _models(route)
    return tuple(
        ir.Arm(
            cluster=variant_name(route, segment.variant),
            variant=segment.variant,
            weight=segment.slots,
            model=models[segment.variant],
        )
        for segment in segments
    )


def _stickiness(spec: RouteSpec) -> Stickiness | None:
    """Return by what users of the strategy's split stay where they are."""
    strategy = spec.strategy
    if strategy is None:
        return None
    if strategy.ab_test is not None:
        return strategy.ab_test.stickiness
    if strategy.canary is not None:
        return strategy.canary.stickiness
    return None if strategy.growth is None else strategy.growth.stickiness


def _rule_stickiness(spec: RouteSpec, serve: Serve) -> Stickiness | None:
    """Return by what users of a rule stay where they are: its own, or the strategy's with another salt."""
    if serve.stickiness is not None:
        return serve.stickiness
    own = _stickiness(spec)
    return None if own is None else own.model_copy(update={"salt": None})


def _sticky(route: ModelRoute, wanted: Stickiness | None, salt: str) -> ir.Stickiness | None:
    if wanted is None:
        return None
    return ir.Stickiness(header=header_of(route, wanted.attribute), salt=wanted.salt or salt)


def _capture(route: ModelRoute, role: ir.Role) -> ir.Capture:
    shadow = shadow_of(route)
    session = None if shadow is None else shadow.compare.session_attribute
    return ir.Capture(
        route=route.metadata.name,
        role=role,
        max_body_bytes=route.spec.capture.max_body_size,
        unit=None if session is None else header_of(route, session),
    )


def _exposure(route: ModelRoute) -> ir.Capture | None:
    """Return what is told of every request of an A/B test: who saw which variant."""
    strategy = route.spec.strategy
    if strategy is None or strategy.ab_test is None:
        return None
    return ir.Capture(
        route=route.metadata.name,
        role=ir.Role.PRIMARY,
        max_body_bytes=0,
        unit=header_of(route, strategy.ab_test.randomization_unit),
        experiment=strategy.ab_test.salt or route.metadata.name,
    )


def _prompt(item: Traffic) -> ir.Prompt | None:
    wanted = item.route.spec.prompt
    if wanted is None:
        return None
    sticky = None
    if wanted.rollout is not None:
        sticky = _sticky(
            item.route, wanted.rollout.stickiness, f"{item.route.metadata.name}/{rollout.PROMPT_SPLIT}"
        )
    return ir.Prompt(
        texts=tuple(
            ir.PromptText(version=version, text=text.system, mode=_MODES[text.mode])
            for version, text in wanted.versions.items()
        ),
        default=wanted.default or "",
        pins=tuple(
            ir.PromptPin(header=header_of(item.route, pin.attribute), values=pin.values, version=pin.version)
            for pin in wanted.overrides
        ),
        stickiness=sticky,
        slots=tuple((segment.variant, segment.slots) for segment in item.segments(rollout.PROMPT_SPLIT)),
    )
