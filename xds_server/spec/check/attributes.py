"""Attributes: where they come from, and whether those that are asked for exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, items, near, one_of, pairs
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS", "clauses"]


def clauses(spec: Any) -> Iterator[tuple[Loc, list[Any]]]:
    """Yield every list of clauses, with its place."""
    for number, rule in enumerate(items(at(spec, "targeting", "rules"))):
        yield ("spec", "targeting", "rules", number, "clauses"), items(at(rule, "clauses"))
    for path in (("shadow", "match"), ("blueGreen", "previewMatch")):
        yield ("spec", "strategy", *path), items(at(spec, "strategy", *path))


def _known(spec: Any) -> Iterator[Finding]:
    attributes = spec.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        return
    known = list(pairs(attributes))
    for loc, attribute in (*_sticky(spec), *_asked(spec)):
        if isinstance(attribute, str) and attribute not in known:
            example = f"add it: attributes: {{{attribute}: {{header: x-user-id}}}}"
            allowed = one_of(known) if known else example
            yield Finding(loc, f"there is no attribute {attribute!r}{near(attribute, known)}", allowed)


def _stays(spec: Any) -> Iterator[Finding]:
    sticky = {attribute for _, attribute in _sticky(spec) if isinstance(attribute, str)}
    for attribute in sorted(sticky):
        header = at(spec, "attributes", attribute, "header")
        if isinstance(header, str) and header.lower() == "x-request-id":
            yield Finding(
                ("spec", "attributes", attribute, "header"),
                "is new with every request: nobody would stay where they are",
                "name a header that stays the same for a user",
            )


def _sticky(spec: Any) -> Iterator[tuple[Loc, Any]]:
    """Yield every place that says by what users stay where they are, with what it says."""
    strategy: Loc = ("strategy",)
    places: list[Loc] = [
        (*strategy, kind, "stickiness", "attribute") for kind in ("canary", "growth", "strategyRef")
    ]
    places.append((*strategy, "abTest", "randomizationUnit"))
    places += [
        ("targeting", "rules", number, "serve", "stickiness", "attribute")
        for number, _ in enumerate(items(at(spec, "targeting", "rules")))
    ]
    places.append(("prompt", "rollout", "stickiness", "attribute"))
    return ((("spec", *place), at(spec, *place)) for place in places)


def _asked(spec: Any) -> Iterator[tuple[Loc, Any]]:
    """Yield every other place that names an attribute, with the name."""
    for loc, listed in clauses(spec):
        for number, clause in enumerate(listed):
            yield (*loc, number, "attribute"), at(clause, "attribute")
    session = ("strategy", "shadow", "compare", "sessionAttribute")
    yield ("spec", *session), at(spec, *session)
    for path in (("targeting", "targets"), ("prompt", "overrides")):
        for number, entry in enumerate(items(at(spec, *path))):
            yield ("spec", *path, number, "attribute"), at(entry, "attribute")


def _sources(spec: Any) -> Iterator[Finding]:
    for name, source in pairs(spec.get("attributes")).items():
        if not isinstance(source, dict):
            continue
        loc: Loc = ("spec", "attributes", name)
        given = [key for key in ("header", "claim") if source.get(key) is not None]
        if len(given) != 1 and not set(source) - {"header", "claim", "provider"}:
            said = "has both header and claim" if given else "has neither header nor claim"
            yield Finding(loc, said, "exactly one of header and claim is needed")


CHECKS: Final = (_known, _stays, _sources)
