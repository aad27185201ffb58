"""Checks of `prompt`: references to versions, weights, and conflicting overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import FULL, at, check_values, items, pairs, percent, unknown
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_LOC: Final[Loc] = ("spec", "prompt")


def _versions(spec: Any) -> Iterator[Finding]:
    versions = at(spec, "prompt", "versions")
    if not isinstance(versions, dict) or not versions:
        return
    known = list(versions)
    named = list(_references(spec["prompt"]))
    for loc, version in named:
        if version not in versions:
            yield Finding((*_LOC, *loc), *unknown("version", version, known))
    used = {version for loc, version in named if percent(at(spec, "prompt", *loc)) != 0}
    if not isinstance(at(spec, "prompt", "default"), str | None):
        return
    for version in known:
        # An unknown version has its own error and may be a misspelling of this version: no warning then.
        if version not in used and used <= set(known):
            yield Finding(
                (*_LOC, "versions", version),
                "is not used: it is not the default, has no weight above 0, and no override refers to it",
                "",
                warning=True,
            )


def _references(prompt: Any) -> Iterator[tuple[Loc, str]]:
    """Yield the location and value of every reference to a version."""
    if isinstance(default := at(prompt, "default"), str):
        yield ("default",), default
    for version in pairs(at(prompt, "rollout", "weights")):
        yield ("rollout", "weights", version), version
    for number, override in enumerate(items(at(prompt, "overrides"))):
        if isinstance(version := at(override, "version"), str):
            yield ("overrides", number, "version"), version


def _weights(spec: Any) -> Iterator[Finding]:
    weights = at(spec, "prompt", "rollout", "weights")
    shares = {version: percent(weight) for version, weight in pairs(weights).items()}
    if None in shares.values():
        return
    loc, total = (*_LOC, "rollout", "weights"), sum(shares.values())
    default = at(spec, "prompt", "default")
    if total > FULL:
        message = f"the weights add up to {total / 100:g} %"
        yield Finding(loc, message, "use weights that add up to at most 100 %")
    elif isinstance(default, str) and default in shares and total != FULL:
        rest = (FULL - total + shares[default]) / 100
        weight = shares[default] / 100
        message = (
            f"is {weight:g} %, but the default version receives all remaining users, which are {rest:g} %"
        )
        yield Finding((*loc, default), message, f"remove this weight, or set it to {rest:g}")


def _overrides(spec: Any) -> Iterator[Finding]:
    overridden: dict[tuple[str, str], int] = {}
    for number, override in enumerate(items(at(spec, "prompt", "overrides"))):
        loc: Loc = (*_LOC, "overrides", number)
        attribute, values = at(override, "attribute"), at(override, "values")
        yield from check_values((*loc, "values"), items(values))
        if not isinstance(attribute, str):
            continue
        for index, value in enumerate(items(values)):
            if not isinstance(value, str):
                continue
            first = overridden.setdefault((attribute, value), number)
            if first != number:
                yield Finding(
                    (*loc, "values", index),
                    f"{value[:40]!r} already has an override: overrides[{first}]",
                    "remove one of them",
                )


CHECKS: Final = (_versions, _weights, _overrides)
