"""Strategies: which may stand together, and what each means on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import FULL, at, duration, items, percent, size
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_KINDS: Final = ("canary", "shadow", "abTest", "blueGreen", "allAtOnce", "growth", "strategyRef")
_MUCH_MEMORY: Final = 4 << 30
_HERE: Final[Loc] = ("spec", "strategy")


def _strategy(spec: Any) -> Iterator[Finding]:
    strategy = spec.get("strategy")
    if not isinstance(strategy, dict):
        return
    chosen = [name for name in _KINDS if strategy.get(name) is not None]
    # An unknown field is probably the strategy that is meant.
    if not chosen and not set(strategy) - set(_KINDS):
        yield Finding(_HERE, "names no strategy", f"exactly one of {_and(_KINDS)} is needed")
    if chosen == ["canary", "shadow"] and at(strategy, "shadow", "promotion") is None:
        yield Finding(
            _HERE,
            "names both canary and shadow",
            "keep one of them, or let the shadow lead into the canary: shadow.promotion: {next: canary}",
        )
    elif len(chosen) > 1 and chosen not in (["canary", "shadow"], ["canary", "blueGreen"]):
        yield Finding(
            _HERE,
            f"names {'both ' if len(chosen) == 2 else ''}{_and(chosen)}",
            f"exactly one of {_and(_KINDS)} is needed; "
            "a canary may also follow a shadow, or stand beside blueGreen",
        )
    if "abTest" not in chosen and spec.get("candidate") is None:
        yield Finding(_HERE, "there is no candidate to try", "set spec.candidate")


def _canary(spec: Any) -> Iterator[Finding]:
    canary = at(spec, "strategy", "canary")
    if not isinstance(canary, dict):
        return
    loc: Loc = (*_HERE, "canary")
    ways = [name for name in ("steps", "stepWeights") if canary.get(name) is not None]
    if len(ways) != 1:
        said = "has both steps and stepWeights" if ways else "has neither steps nor stepWeights"
        yield Finding(loc, said, "exactly one of steps and stepWeights is needed")
    if canary.get("interval") is not None and "stepWeights" not in ways:
        yield Finding(
            (*loc, "interval"), "belongs to stepWeights", "write pause: {duration: …} between steps instead"
        )
    yield from _steps((*loc, "steps"), canary.get("steps"))
    weights = [percent(weight) for weight in items(canary.get("stepWeights"))]
    for number, weight in enumerate(weights):
        former = weights[number - 1] if number else None
        if weight is not None and former is not None and weight <= former:
            yield Finding(
                (*loc, "stepWeights", number),
                f"{weight / 100:g} is not more than the weight before it",
                "ascending weights are needed",
            )
    yield from _ends_early((*loc, "stepWeights"), weights)


def _steps(loc: Loc, steps: Any) -> Iterator[Finding]:
    kinds: list[str | None] = []
    for number, step in enumerate(items(steps)):
        if not isinstance(step, dict):
            kinds.append(None)
            continue
        given = [k for k in ("setWeight", "pause") if k in step]
        kinds.append(given[0] if len(given) == 1 else None)
        if len(given) != 1 and not set(step) - {"setWeight", "pause"}:
            said = "has both setWeight and pause" if given else "is empty"
            yield Finding((*loc, number), said, "exactly one of setWeight and pause is needed")
        if len(kinds) > 1 and kinds[-1] == kinds[-2] == "pause":
            yield Finding((*loc, number), "is the second pause in a row", "", warning=True)
    if kinds and kinds[0] == "pause":
        yield Finding((*loc, 0), "the first step is a pause: nothing would be tried", "begin with setWeight")
    weights = [at(step, "setWeight") for step in items(steps)]
    yield from _ends_early(loc, [percent(weight) for weight in weights if weight is not None])


def _ends_early(loc: Loc, weights: list[Any]) -> Iterator[Finding]:
    if weights and weights[-1] not in {None, FULL}:
        yield Finding(
            loc, f"the last weight is {weights[-1] / 100:g} %: the rollout would end there", "", warning=True
        )


def _shadow(spec: Any) -> Iterator[Finding]:
    shadow = at(spec, "strategy", "shadow")
    if not isinstance(shadow, dict):
        return
    loc: Loc = (*_HERE, "shadow")
    percentage = percent(shadow.get("percentage"))
    if percentage is not None and percentage > FULL // 2:
        yield Finding(
            (*loc, "percentage"), "copies more than half of the requests: each costs tokens", "", warning=True
        )
    if shadow.get("promotion") is not None and at(spec, "strategy", "canary") is None:
        yield Finding((*loc, "promotion"), "there is no canary that could follow", "add spec.strategy.canary")
    asked = at(shadow, "promotion", "requireVerdict")
    if asked == "Equivalent" and at(shadow, "compare", "noiseBaseline") is None:
        yield Finding(
            (*loc, "promotion", "requireVerdict"),
            "without a noise baseline nobody can tell whether answers are alike: no canary would begin",
            "add compare: {noiseBaseline: {percentage: 20}}, or ask for NotDifferent",
        )
    limits = shadow.get("limits")
    if "limits" in shadow and not isinstance(limits, dict):
        return
    requests = at(limits, "maxConcurrentRequests")
    largest = size(at(limits, "maxRequestSize"))
    held = (requests if isinstance(requests, int) else 64) * (largest or 32 << 20)
    if held > _MUCH_MEMORY:
        yield Finding(
            (*loc, "limits"),
            f"a stuck shadow could hold {held / (1 << 30):.1f} GiB in each proxy "
            "(maxConcurrentRequests times maxRequestSize)",
            "",
            warning=True,
        )


def _ab_test(spec: Any) -> Iterator[Finding]:
    test = at(spec, "strategy", "abTest")
    if not isinstance(test, dict):
        return
    loc: Loc = (*_HERE, "abTest")
    stable, candidate = spec.get("stable"), spec.get("candidate")
    if candidate is not None:
        yield Finding(
            ("spec", "candidate"),
            "an A/B test has no candidate",
            "leave it away; backends that are tried are named in strategy.abTest.variants",
        )
    control = test.get("control")
    if isinstance(control, str) and isinstance(stable, str) and control != stable:
        yield Finding(
            (*loc, "control"), f"{control!r} is not the stable backend", f"leave it away, or say {stable}"
        )
    yield from _hypothesis((*loc, "primaryMetric"), test.get("primaryMetric"))
    seen: set[str] = set()
    for number, variant in enumerate(items(test.get("variants"))):
        name, place = at(variant, "backend"), (*loc, "variants", number, "backend")
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Finding(place, f"{name!r} is a variant already", "list each backend once")
        elif name == stable:
            yield Finding(
                place,
                f"{name!r} is the stable backend: it is the control, and has what the variants leave",
                "leave it away",
            )
        seen.add(name)
    weights = [percent(at(variant, "weight")) for variant in items(test.get("variants"))]
    if (together := sum(weight for weight in weights if weight is not None)) > FULL:
        yield Finding(
            (*loc, "variants"),
            f"the weights are {together / 100:g} % together",
            "at most 100 are allowed; the control has the rest",
        )


def _hypothesis(loc: Loc, metric: Any) -> Iterator[Finding]:
    if not isinstance(metric, dict):
        return
    if metric.get("column") is None:
        yield Finding(
            loc,
            "does not say whether what is counted is good: nobody will be called a winner",
            "",
            warning=True,
        )
    effect, baseline = metric.get("minimumDetectableEffect"), metric.get("baseline")
    if not isinstance(effect, dict):
        return
    given = [name for name in ("absolute", "relative") if effect.get(name) is not None]
    place = (*loc, "minimumDetectableEffect")
    if len(given) != 1:
        said = "is both absolute and relative" if given else "is neither absolute nor relative"
        yield Finding(
            place, said, "0.05 of a baseline of 0.10 is 0.15 if absolute, 0.105 if relative; say one"
        )
    elif isinstance(baseline, int | float) and isinstance(effect[given[0]], int | float):
        rise = effect[given[0]] * (1 if given[0] == "absolute" else baseline)
        if not rise or not 0 < baseline + (rise if metric.get("column") != "Bad" else -rise) < 1:
            yield Finding(place, "leads to no rate between 0 and 1", "a smaller effect, and one above 0")


def _blue_green(spec: Any) -> Iterator[Finding]:
    blue_green = at(spec, "strategy", "blueGreen")
    if not isinstance(blue_green, dict):
        return
    loc: Loc = (*_HERE, "blueGreen")
    enabled, after = blue_green.get("autoPromotionEnabled"), blue_green.get("autoPromotionAfter")
    if duration(after) and enabled in {None, False}:
        yield Finding(
            (*loc, "autoPromotionAfter"),
            "nothing is promoted by itself: autoPromotionEnabled is false",
            "set autoPromotionEnabled: true, or leave it away",
        )
    if not blue_green.get("previewMatch") and not set(blue_green) & {"active", "preview"}:
        yield Finding(
            loc,
            "has no previewMatch: nobody can try the candidate before everyone is switched",
            "",
            warning=True,
        )


def _and(names: Any) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else str(last)


CHECKS: Final = (_strategy, _canary, _shadow, _ab_test, _blue_green)
