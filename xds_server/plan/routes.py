"""The routes of one spec, in evaluation order (pure).

The order: kill switch, targets, rules, the blue-green preview, then the strategy: first the sampled
routes, which mirror requests, and last the route that takes all remaining requests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from xds_server import ir, rollout
from xds_server.plan.attributes import conditions, header_of, private_headers
from xds_server.plan.clusters import mirror_listener_name, noise_name, shadow_name, shadow_of, variant_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server.plan.traffic import RouteTraffic
    from xds_server.spec import ModelRoute, RouteSpec, Serve, Shadow, Stickiness

__all__ = ["mirror_routes", "routes"]

_MODES: Final = {
    "Insert": ir.PromptMode.INSERT,
    "Replace": ir.PromptMode.REPLACE,
    "Append": ir.PromptMode.APPEND,
}


def routes(item: RouteTraffic, *, captured: bool) -> Iterator[ir.Route]:
    """Yield the routes of the entry listener; `captured` is whether a collector receives captured legs."""
    plain = _plain(item)
    yield _kill(item, plain)
    yield from _targets(item, plain)
    yield from _rules(item, plain)
    yield from _preview(item, plain)
    exposed = replace(plain, capture=_exposure(item.route) if captured else None)
    yield from _sampled(item, exposed, captured=captured)
    yield exposed


def mirror_routes(item: RouteTraffic, *, captured: bool) -> Iterator[ir.MirrorRoute]:
    """Yield the routes of the mirror listener."""
    shadow, candidate = shadow_of(item.route), item.route.spec.candidate
    if shadow is None or candidate is None:
        return
    stable = item.route.spec.stable
    targets = [(ir.Role.SHADOW, candidate, shadow_name(item.route, candidate))]
    if shadow.compare.noise_baseline is not None:
        targets.append((ir.Role.NOISE, stable, noise_name(item.route, stable)))
    for role, variant, cluster in targets:
        leg = f"{item.route.metadata.name}/{role.value}"
        yield ir.MirrorRoute(
            name=leg,
            leg=leg,
            arm=ir.Arm(cluster=cluster, variant=variant, weight=ir.FULL, model=_models(item.route)[variant]),
            capture=_capture(item.route, role) if captured else None,
            timeout=shadow.limits.timeout.total_seconds(),
        )


def _plain(item: RouteTraffic) -> ir.Route:
    spec, name = item.route.spec, item.route.metadata.name
    return ir.Route(
        name=name,
        route=name,
        split=rollout.STRATEGY_SPLIT,
        path=ir.PathMatch(prefix=spec.match.path.prefix, exact=spec.match.path.exact),
        arms=_arms(item.route, item.segments(rollout.STRATEGY_SPLIT), sticky=_stickiness(spec) is not None),
        stickiness=_sticky(item.route, _stickiness(spec), name),
        prompt=_prompt(item),
        timeout=None if spec.timeouts.request is None else spec.timeouts.request.total_seconds(),
        idle_timeout=spec.timeouts.idle.total_seconds(),
        retries=spec.retries,
        response_headers=spec.response_headers,
        private=private_headers(item.route),
    )


def _kill(item: RouteTraffic, plain: ir.Route) -> ir.Route:
    """Return the route that takes all requests while the route is killed, and none otherwise."""
    return replace(
        plain,
        name=f"{plain.name}/killed",
        split="killed",
        runtime_fraction=ir.RuntimeFraction(
            key=f"shiftplane.{plain.name}.kill", default=0, now=ir.FULL if item.killed else 0
        ),
        arms=_whole(item.route, item.route.spec.kill_switch.serve or item.route.spec.stable),
        stickiness=None,
        prompt=None,
    )


def _targets(item: RouteTraffic, plain: ir.Route) -> Iterator[ir.Route]:
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
            arms=_whole(item.route, _healthy_variant(item, target.serve)),
            stickiness=None,
        )


def _rules(item: RouteTraffic, plain: ir.Route) -> Iterator[ir.Route]:
    route = item.route
    for rule in route.spec.targeting.rules:
        split = rollout.rule_split_name(rule.name)
        if isinstance(rule.serve, str):
            arms, sticky = _whole(route, _healthy_variant(item, rule.serve)), None
        else:
            healthy = (
                rollout.Segment(variant=_healthy_variant(item, segment.variant), slots=segment.slots)
                for segment in item.segments(split)
            )
            stickiness = _rule_stickiness(route.spec, rule.serve)
            arms = _arms(route, healthy, sticky=stickiness is not None)
            sticky = _sticky(route, stickiness, f"{route.metadata.name}/{split}")
        yield replace(
            plain,
            name=f"{plain.name}/{split}",
            split=split,
            conditions=conditions(route, rule.clauses),
            arms=arms,
            stickiness=sticky,
        )


def _preview(item: RouteTraffic, plain: ir.Route) -> Iterator[ir.Route]:
    spec = item.route.spec
    strategy = None if spec.strategy is None else spec.strategy.blue_green
    if strategy is None or not strategy.preview_match or spec.candidate is None:
        return
    yield replace(
        plain,
        name=f"{plain.name}/preview",
        split="preview",
        conditions=conditions(item.route, strategy.preview_match),
        arms=_whole(item.route, _healthy_variant(item, spec.candidate)),
        stickiness=None,
    )


def _sampled(item: RouteTraffic, plain: ir.Route, *, captured: bool) -> Iterator[ir.Route]:
    shadow = shadow_of(item.route)
    if shadow is None or item.mirror <= 0:
        return
    clauses = conditions(item.route, shadow.match)
    capture = _capture(item.route, ir.Role.PRIMARY) if captured else None
    baseline = shadow.compare.noise_baseline
    if baseline is not None:
        # Evaluated before the other sampled route. Both use the random number that Envoy draws per request,
        # so requests with a noise baseline are a subset of the mirrored ones.
        yield replace(
            plain,
            name=f"{plain.name}/sampled/noise",
            conditions=clauses,
            runtime_fraction=ir.RuntimeFraction(
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
        runtime_fraction=ir.RuntimeFraction(
            key=f"shiftplane.{plain.name}.shadow", default=shadow.percentage, now=item.mirror
        ),
        mirrors=(_mirror(item, shadow, ir.Role.SHADOW),),
        capture=capture,
    )


def _part(share: int, percentage: int) -> int:
    """Return `percentage` of `share`, both in basis points; at least 1."""
    return max(1, share * percentage // ir.FULL)


def _mirror(item: RouteTraffic, shadow: Shadow, role: ir.Role) -> ir.Mirror:
    return ir.Mirror(
        cluster=mirror_listener_name(item.route),
        leg=f"{item.route.metadata.name}/{role.value}",
        max_request_bytes=shadow.limits.max_request_size,
    )


def _healthy_variant(item: RouteTraffic, variant: str) -> str:
    """Return the variant, or the stable one if the variant has no healthy endpoint or was withdrawn."""
    return item.route.spec.stable if variant in item.dead else variant


def _models(route: ModelRoute) -> dict[str, str | None]:
    """Return the model name to write into the requests of each backend; None leaves the body unchanged.

    If one backend has `modelNameOverride`, the requests of all backends are rewritten. Envoy copies a request
    after the rewrite, so the copy would otherwise keep the model name of the backend that serves the user.
    """
    overridden = any(backend.model_name_override is not None for backend in route.spec.backends)
    return {
        backend.name: backend.model_name_override or (route.spec.model if overridden else None)
        for backend in route.spec.backends
    }


def _whole(route: ModelRoute, variant: str) -> tuple[ir.Arm, ...]:
    return _arms(route, [rollout.Segment(variant=variant, slots=ir.FULL)])


def _arms(
    route: ModelRoute, segments: Iterable[rollout.Segment], *, sticky: bool = False
) -> tuple[ir.Arm, ...]:
    """Return the arms of a split; if users are sticky to one of several variants, divided into cells."""
    models, whole = _models(route), tuple(segments)
    divided: tuple[tuple[rollout.Segment, int | None], ...] = tuple((segment, None) for segment in whole)
    if sticky and len(rollout.slots_by_variant(segment for segment in whole if segment.slots)) > 1:
        divided = rollout.divide(whole)
    return tuple(
        ir.Arm(
            cluster=variant_name(route, segment.variant),
            variant=segment.variant,
            weight=segment.slots,
            model=models[segment.variant],
            cell=cell,
        )
        for segment, cell in divided
    )


def _stickiness(spec: RouteSpec) -> Stickiness | None:
    """Return the stickiness of the strategy's split."""
    strategy = spec.strategy
    if strategy is None:
        return None
    if strategy.ab_test is not None:
        return strategy.ab_test.stickiness
    if strategy.canary is not None:
        return strategy.canary.stickiness
    return None if strategy.growth is None else strategy.growth.stickiness


def _rule_stickiness(spec: RouteSpec, serve: Serve) -> Stickiness | None:
    """Return the stickiness of a rule: its own, or the strategy's with the rule's default salt."""
    if serve.stickiness is not None:
        return serve.stickiness
    inherited = _stickiness(spec)
    return None if inherited is None else inherited.model_copy(update={"salt": None})


def _sticky(route: ModelRoute, stickiness: Stickiness | None, salt: str) -> ir.Stickiness | None:
    if stickiness is None:
        return None
    return ir.Stickiness(header=header_of(route, stickiness.attribute), salt=stickiness.salt or salt)


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
    """Return the capture that reports which user of an A/B test saw which variant."""
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


def _prompt(item: RouteTraffic) -> ir.Prompt | None:
    prompt = item.route.spec.prompt
    if prompt is None:
        return None
    sticky = None
    if prompt.rollout is not None:
        sticky = _sticky(
            item.route, prompt.rollout.stickiness, f"{item.route.metadata.name}/{rollout.PROMPT_SPLIT}"
        )
    return ir.Prompt(
        texts=tuple(
            ir.PromptText(version=version, text=text.system, mode=_MODES[text.mode])
            for version, text in prompt.versions.items()
        ),
        default=prompt.default or "",
        pins=tuple(
            ir.PromptPin(header=header_of(item.route, pin.attribute), values=pin.values, version=pin.version)
            for pin in prompt.overrides
        ),
        stickiness=sticky,
        slots=tuple((segment.variant, segment.slots) for segment in item.segments(rollout.PROMPT_SPLIT)),
    )
