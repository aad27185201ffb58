"""Checks of `attributes`: their sources, and references to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, items, pairs, unknown
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS", "clauses"]


def clauses(spec: Any) -> Iterator[tuple[Loc, list[Any]]]:
    """Yield every list of clauses with its location."""
    for number, rule in enumerate(items(at(spec, "targeting", "rules"))):
        yield ("spec", "targeting", "rules", number, "clauses"), items(at(rule, "clauses"))
    for path in (("shadow", "match"), ("blueGreen", "previewMatch")):
        yield ("spec", "strategy", *path), items(at(spec, "strategy", *path))


def _known(spec: Any) -> Iterator[Finding]:
    attributes = spec.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        return
    known = list(pairs(attributes))
    for loc, attribute in (*_sticky(spec), *_referenced(spec)):
        if isinstance(attribute, str) and attribute not in known:
            message, defined = unknown("attribute", attribute, known)
            example = f"add spec.attributes: {{{attribute}: {{header: HEADER}}}}"
            yield Finding(loc, message, defined if known else example)


def _request_id(spec: Any) -> Iterator[Finding]:
    sticky = {attribute for _, attribute in _sticky(spec) if isinstance(attribute, str)}
    for attribute in sorted(sticky):
        header = at(spec, "attributes", attribute, "header")
        if isinstance(header, str) and header.lower() == "x-request-id":
            yield Finding(
                ("spec", "attributes", attribute, "header"),
                "x-request-id differs in every request, so no user would keep a backend or prompt version",
                "use a header with the same value in all requests of a user",
            )


def _sticky(spec: Any) -> Iterator[tuple[Loc, Any]]:
    """Yield the location and value of every attribute that determines stickiness."""
    strategy: Loc = ("strategy",)
    locs: list[Loc] = [
        (*strategy, kind, "stickiness", "attribute") for kind in ("canary", "growth", "strategyRef")
    ]
    locs.append((*strategy, "abTest", "randomizationUnit"))
    locs += [
        ("targeting", "rules", number, "serve", "stickiness", "attribute")
        for number, _ in enumerate(items(at(spec, "targeting", "rules")))
    ]
    locs.append(("prompt", "rollout", "stickiness", "attribute"))
    return ((("spec", *loc), at(spec, *loc)) for loc in locs)


def _referenced(spec: Any) -> Iterator[tuple[Loc, Any]]:
    """Yield the location and value of every reference to an attribute that does not determine stickiness."""
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
            message = "has both header and claim" if given else "has neither header nor claim"
            yield Finding(loc, message, "set exactly one of header and claim")


CHECKS: Final = (_known, _request_id, _sources)
