"""Prompts: versions that exist, shares that add up, and nobody with two versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import FULL, at, items, near, one_of, pairs, percent, values_of
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_HERE: Final[Loc] = ("spec", "prompt")


def _versions(spec: Any) -> Iterator[Finding]:
    versions = at(spec, "prompt", "versions")
    if not isinstance(versions, dict) or not versions:
        return
    known = list(versions)
    named = list(_named(spec["prompt"]))
    for loc, version in named:
        if version not in versions:
            yield Finding(
                (*_HERE, *loc), f"there is no version {version!r}{near(version, known)}", one_of(known)
            )
    used = {version for loc, version in named if percent(at(spec, "prompt", *loc)) != 0}
    if not isinstance(at(spec, "prompt", "default"), str | None):
        return
    for version in known:
        # A name that nothing has is an error already, and may well mean this version.
        if version not in used and used <= set(known):
            yield Finding(
                (*_HERE, "versions", version),
                "nobody gets it: it is not the default, has no weight, and no override names it",
                "",
                warning=True,
            )


def _named(prompt: Any) -> Iterator[tuple[Loc, str]]:
    """Yield every place that names a version, with the name."""
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
    loc, together = (*_HERE, "rollout", "weights"), sum(shares.values())
    default = at(spec, "prompt", "default")
    if together > FULL:
        said = f"the weights are {together / 100:g} % together"
        yield Finding(loc, said, "at most 100 are allowed; the default version has the rest")
    elif isinstance(default, str) and default in shares and together != FULL:
        rest = (FULL - together + shares[default]) / 100
        said = f"the default version has what the others leave, which is {rest:g} %"
        yield Finding((*loc, default), said, f"leave it away, or say {rest:g}")


def _overrides(spec: Any) -> Iterator[Finding]:
    taken: dict[tuple[str, str], int] = {}
    for number, override in enumerate(items(at(spec, "prompt", "overrides"))):
        loc: Loc = (*_HERE, "overrides", number)
        attribute, values = at(override, "attribute"), at(override, "values")
        yield from values_of((*loc, "values"), items(values))
        if not isinstance(attribute, str):
            continue
        for place, value in enumerate(items(values)):
            if not isinstance(value, str):
                continue
            first = taken.setdefault((attribute, value), number)
            if first != number:
                yield Finding(
                    (*loc, "values", place),
                    f"{value[:40]!r} has an override already: overrides[{first}]",
                    "keep one of them",
                )


CHECKS: Final = (_versions, _weights, _overrides)
