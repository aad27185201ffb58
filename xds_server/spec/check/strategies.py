"""Checks of `strategy`: valid combinations, and the fields of each strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import FULL, at, duration, items, percent, size
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_KINDS: Final = ("canary", "shadow", "abTest", "blueGreen", "allAtOnce", "growth", "strategyRef")
_MEMORY_WARNING: Final = 4 << 30
_LOC: Final[Loc] = ("spec", "strategy")


def _strategy(spec: Any) -> Iterator[Finding]:
    strategy = spec.get("strategy")
    if not isinstance(strategy, dict):
        return
    chosen = [name for name in _KINDS if strategy.get(name) is not None]
    # An unknown field is probably a misspelled strategy, and is reported as an error by `shape`.
    if not chosen and not set(strategy) - set(_KINDS):
        yield Finding(_LOC, "contains no strategy", f"set exactly one of {_and(_KINDS)}")
    if chosen == ["canary", "shadow"] and at(strategy, "shadow", "promotion") is None:
        yield Finding(
            _LOC,
            "contains both canary and shadow",
            "remove one of them, or add shadow.promotion: {next: canary} to run the canary after the shadow",
        )
    elif len(chosen) > 1 and chosen not in (["canary", "shadow"], ["canary", "blueGreen"]):
        yield Finding(
            _LOC,
            f"contains {'both ' if len(chosen) == 2 else ''}{_and(chosen)}",
            f"set exactly one of {_and(_KINDS)}; "
            "canary can also be combined with a shadow that has a promotion, or with blueGreen",
        )
    if "abTest" not in chosen and spec.get("candidate") is None:
        yield Finding(_LOC, "every strategy except abTest requires a candidate", "set spec.candidate")


def _canary(spec: Any) -> Iterator[Finding]:
    canary = at(spec, "strategy", "canary")
    if not isinstance(canary, dict):
        return
    loc: Loc = (*_LOC, "canary")
    ways = [name for name in ("steps", "stepWeights") if canary.get(name) is not None]
    if len(ways) != 1:
        message = "has both steps and stepWeights" if ways else "has neither steps nor stepWeights"
        yield Finding(loc, message, "set exactly one of steps and stepWeights")
    if canary.get("interval") is not None and "stepWeights" not in ways:
        yield Finding(
            (*loc, "interval"), "requires stepWeights", "use pause: {duration: …} between steps instead"
        )
    yield from _steps((*loc, "steps"), canary.get("steps"))
    weights = [percent(weight) for weight in items(canary.get("stepWeights"))]
    for number, weight in enumerate(weights):
        previous = weights[number - 1] if number else None
        if weight is not None and previous is not None and weight <= previous:
            yield Finding(
                (*loc, "stepWeights", number),
                f"{weight / 100:g} is not greater than the previous weight",
                "use ascending weights",
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
            message = "has both setWeight and pause" if given else "must not be empty"
            yield Finding((*loc, number), message, "set exactly one of setWeight and pause")
        if len(kinds) > 1 and kinds[-1] == kinds[-2] == "pause":
            yield Finding(
                (*loc, number),
                "follows another pause without a setWeight between them",
                "merge the two pauses, or add a setWeight step between them",
                warning=True,
            )
    if kinds and kinds[0] == "pause":
        yield Finding(
            (*loc, 0), "the first step is a pause, before the candidate has a weight", "begin with setWeight"
        )
    weights = [at(step, "setWeight") for step in items(steps)]
    yield from _ends_early(loc, [percent(weight) for weight in weights if weight is not None])


def _ends_early(loc: Loc, weights: list[Any]) -> Iterator[Finding]:
    if weights and weights[-1] not in {None, FULL}:
        yield Finding(
            loc,
            f"the last weight is {weights[-1] / 100:g} %, "
            "so the stable backend still serves users when the rollout ends",
            "end with a weight of 100 to move all users to the candidate",
            warning=True,
        )


def _shadow(spec: Any) -> Iterator[Finding]:
    shadow = at(spec, "strategy", "shadow")
    if not isinstance(shadow, dict):
        return
    loc: Loc = (*_LOC, "shadow")
    percentage = percent(shadow.get("percentage"))
    if percentage is not None and percentage > FULL // 2:
        yield Finding(
            (*loc, "percentage"),
            "copies more than half of the requests, and each copy costs tokens",
            "",
            warning=True,
        )
    if shadow.get("promotion") is not None and at(spec, "strategy", "canary") is None:
        yield Finding(
            (*loc, "promotion"), "requires a canary that follows the shadow", "add spec.strategy.canary"
        )
    required = at(shadow, "promotion", "requireVerdict")
    if required == "Equivalent" and at(shadow, "compare", "noiseBaseline") is None:
        yield Finding(
            (*loc, "promotion", "requireVerdict"),
            "the verdict Equivalent requires a noise baseline; without one the canary would never start",
            "add compare: {noiseBaseline: {percentage: 20}}, or use NotDifferent",
        )
    limits = shadow.get("limits")
    if "limits" in shadow and not isinstance(limits, dict):
        return
    requests = at(limits, "maxConcurrentRequests")
    largest = size(at(limits, "maxRequestSize"))
    memory = (requests if isinstance(requests, int) else 64) * (largest or 32 << 20)
    if memory > _MEMORY_WARNING:
        yield Finding(
            (*loc, "limits"),
            f"copies could use {memory / (1 << 30):.1f} GiB of memory in each proxy "
            "(maxConcurrentRequests times maxRequestSize)",
            "lower maxConcurrentRequests or maxRequestSize",
            warning=True,
        )


def _ab_test(spec: Any) -> Iterator[Finding]:
    test = at(spec, "strategy", "abTest")
    if not isinstance(test, dict):
        return
    loc: Loc = (*_LOC, "abTest")
    stable, candidate = spec.get("stable"), spec.get("candidate")
    if candidate is not None:
        yield Finding(
            ("spec", "candidate"),
            "is not allowed with strategy.abTest",
            "remove candidate, and list the backends under test in strategy.abTest.variants",
        )
    control = test.get("control")
    if isinstance(control, str) and isinstance(stable, str) and control != stable:
        yield Finding(
            (*loc, "control"),
            f"{control!r} is not the stable backend, which is always the control",
            f"remove it, or set it to {stable}",
        )
    yield from _hypothesis((*loc, "primaryMetric"), test.get("primaryMetric"))
    seen: set[str] = set()
    for number, variant in enumerate(items(test.get("variants"))):
        name, place = at(variant, "backend"), (*loc, "variants", number, "backend")
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Finding(place, f"duplicate variant {name!r}", "list each backend once")
        elif name == stable:
            yield Finding(
                place,
                f"{name!r} is the stable backend, which is the control and serves the remaining users",
                "remove it from the variants",
            )
        seen.add(name)
    weights = [percent(at(variant, "weight")) for variant in items(test.get("variants"))]
    if (total := sum(weight for weight in weights if weight is not None)) > FULL:
        yield Finding(
            (*loc, "variants"),
            f"the weights add up to {total / 100:g} %",
            "at most 100 % are allowed; the control serves the remaining users",
        )


def _hypothesis(loc: Loc, metric: Any) -> Iterator[Finding]:
    if not isinstance(metric, dict):
        return
    if metric.get("column") is None:
        yield Finding(
            loc,
            "has no column, so no variant can win",
            "add column: Good if a counted user is a success, or column: Bad if it is a failure",
            warning=True,
        )
    effect, baseline = metric.get("minimumDetectableEffect"), metric.get("baseline")
    if not isinstance(effect, dict):
        return
    given = [name for name in ("absolute", "relative") if effect.get(name) is not None]
    place = (*loc, "minimumDetectableEffect")
    if len(given) != 1:
        message = "has both absolute and relative" if given else "has neither absolute nor relative"
        absolute, relative = ("0.05", "0.095") if metric.get("column") == "Bad" else ("0.15", "0.105")
        allowed = (
            "set exactly one of them. Example with a baseline of 0.10: "
            f"{{absolute: 0.05}} means a rate of {absolute}, {{relative: 0.05}} a rate of {relative}"
        )
        yield Finding(place, message, allowed)
    elif isinstance(baseline, int | float) and isinstance(effect[given[0]], int | float):
        rise = effect[given[0]] * (1 if given[0] == "absolute" else baseline)
        rate = baseline + (rise if metric.get("column") != "Bad" else -rise)
        if not rise:
            yield Finding(
                place,
                f"does not change the baseline, which is {baseline:g}",
                _usable_effect(baseline, bad=metric.get("column") == "Bad"),
            )
        elif not 0 < rate < 1:
            yield Finding(
                place,
                f"changes the rate from the baseline {baseline:g} to {rate:g}",
                "use an effect and a baseline that give a rate greater than 0 and less than 1",
            )


def _usable_effect(baseline: float, *, bad: bool) -> str:
    """Return what to change in a metric whose effect leaves the baseline as it is."""
    if baseline > 0:
        return "use an effect greater than 0"
    return "use a baseline greater than 0" if bad else "use an absolute effect greater than 0"


def _blue_green(spec: Any) -> Iterator[Finding]:
    blue_green = at(spec, "strategy", "blueGreen")
    if not isinstance(blue_green, dict):
        return
    loc: Loc = (*_LOC, "blueGreen")
    enabled, after = blue_green.get("autoPromotionEnabled"), blue_green.get("autoPromotionAfter")
    if duration(after) and enabled in {None, False}:
        yield Finding(
            (*loc, "autoPromotionAfter"),
            "has no effect while autoPromotionEnabled is false",
            "set autoPromotionEnabled: true, or remove autoPromotionAfter",
        )
    if not blue_green.get("previewMatch") and not set(blue_green) & {"active", "preview"}:
        yield Finding(
            loc,
            "has no previewMatch, so the strategy sends no requests to the candidate before the switch",
            "add clauses that select the requests for the candidate, such as those of test users",
            warning=True,
        )


def _and(names: Any) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else str(last)


CHECKS: Final = (_strategy, _canary, _shadow, _ab_test, _blue_green)
