"""User attributes → headers, and clauses on attributes → conditions on those headers (pure)."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from xds_server import ir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server.spec import Clause, ModelRoute

__all__ = ["claim_header", "conditions", "header_of", "private_headers", "semver"]

_PLAIN: Final = {
    "in": (ir.Op.EQUALS, False),
    "notIn": (ir.Op.EQUALS, True),
    "startsWith": (ir.Op.STARTS_WITH, False),
    "endsWith": (ir.Op.ENDS_WITH, False),
    "contains": (ir.Op.CONTAINS, False),
    "matches": (ir.Op.MATCHES, False),
    "exists": (ir.Op.EXISTS, False),
    "notExists": (ir.Op.EXISTS, True),
}
_ANY: Final = "(?:0|[1-9][0-9]*)"
_WORDS: Final = "[0-9A-Za-z.-]+"
_BUILD: Final = rf"(?:\+{_WORDS})?"
_TAIL: Final = rf"(?:-{_WORDS})?{_BUILD}"


def header_of(route: ModelRoute, attribute: str) -> str:
    """Return the header that carries an attribute."""
    source = route.spec.attributes[attribute]
    return claim_header(route.metadata.name, attribute) if source.header is None else source.header


def claim_header(route: str, attribute: str) -> str:
    """Return the header into which a proxy writes a token claim as an attribute.

    Clients cannot set this header: proxies strip all `x-shiftplane-` headers from incoming requests.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", attribute.lower()).strip("-")
    return f"x-shiftplane-claim-{route}-{plain}-{blake2b(attribute.encode(), digest_size=3).hexdigest()}"


def private_headers(route: ModelRoute) -> tuple[str, ...]:
    """Return the headers that conditions use and that must not reach a backend."""
    attributes = route.spec.attributes.items()
    return tuple(
        claim_header(route.metadata.name, name) for name, source in attributes if source.header is None
    )


def conditions(route: ModelRoute, clauses: Iterable[Clause]) -> tuple[ir.Condition, ...]:
    """Return the header conditions of a request that meets all clauses."""
    return tuple(_condition(header_of(route, clause.attribute), clause) for clause in clauses)


def _condition(header: str, clause: Clause) -> ir.Condition:
    if clause.op in _PLAIN:
        op, negated = _PLAIN[clause.op]
        return ir.Condition(header=header, op=op, values=clause.values, negated=negated)
    match clause.op:
        case "greaterThan" | "lessOrEqual":
            bound = int(clause.values[0]) + 1
        case "greaterOrEqual" | "lessThan":
            bound = int(clause.values[0])
        case _:
            versions = tuple(semver(clause.op, value) for value in clause.values)
            return ir.Condition(header=header, op=ir.Op.MATCHES, values=versions)
    least = clause.op.startswith("greater")
    return ir.Condition(header=header, op=ir.Op.AT_LEAST if least else ir.Op.BELOW, values=(str(bound),))


def semver(op: str, version: str) -> str:
    """Return a regular expression of the versions that compare to `version` (x.y.z) by `op`.

    A pre-release sorts before its release, as in semantic versioning; a leading v is allowed.
    """
    major, minor, patch = (int(part) for part in version.split("."))
    same = rf"{major}\.{minor}\.{patch}"
    match op:
        case "semverGreaterThan" | "semverGreaterOrEqual":
            found = [rf"(?:{_triples(major, minor, patch, above=True)}){_TAIL}"]
        case "semverLessThan" | "semverLessOrEqual":
            triples = _triples(major, minor, patch, above=False)
            found = [rf"(?:{triples}){_TAIL}"] if triples else []
            found.append(rf"{same}-{_WORDS}{_BUILD}")
        case _:
            raise ValueError(f"{op} is not a version operator")
    if op.endswith("OrEqual"):
        found.append(same + _BUILD)
    return f"v?(?:{'|'.join(found)})"


def _triples(major: int, minor: int, patch: int, *, above: bool) -> str:
    def side(number: int) -> str:
        return "|".join(_at_least(number + 1) if above else _below(number))

    parts = []
    if outer := side(major):
        parts.append(rf"(?:{outer})\.{_ANY}\.{_ANY}")
    if middle := side(minor):
        parts.append(rf"{major}\.(?:{middle})\.{_ANY}")
    if inner := side(patch):
        parts.append(rf"{major}\.{minor}\.(?:{inner})")
    return "|".join(parts)


def _at_least(number: int) -> Iterator[str]:
    """Yield patterns of the integers from `number` up, without leading zeros."""
    digits = str(number)
    yield digits
    for place, digit in enumerate(digits):
        if digit != "9":
            yield f"{digits[:place]}[{int(digit) + 1}-9]{_digits(len(digits) - place - 1)}"
    yield f"[1-9][0-9]{{{len(digits)},}}"


def _below(number: int) -> Iterator[str]:
    """Yield patterns of the integers below `number`, without leading zeros."""
    digits = str(number)
    if len(digits) > 1:
        yield "0"
        yield f"[1-9][0-9]{{0,{len(digits) - 2}}}"
    for place, digit in enumerate(digits):
        least = 1 if place == 0 and len(digits) > 1 else 0
        if int(digit) > least:
            yield f"{digits[:place]}[{least}-{int(digit) - 1}]{_digits(len(digits) - place - 1)}"


def _digits(count: int) -> str:
    return f"[0-9]{{{count}}}" if count else ""
