"""Checks of targets, rules and clauses: valid operator values, and unreachable entries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xds_server.spec.check.attributes import clauses
from xds_server.spec.check.regex import MAX_EXPANDED, RegexError, expanded_length
from xds_server.spec.check.values import FULL, at, check_values, items, pairs, percent, texts
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_MAX_NUMBER: Final = 1 << 62
_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}")
_VALUELESS: Final = frozenset({"exists", "notExists"})
_NUMBERS: Final = frozenset({"greaterThan", "greaterOrEqual", "lessThan", "lessOrEqual"})
_NEGATIVE: Final = frozenset({"notIn", "notExists"})
_ANY_OF: Final = frozenset({"in", "startsWith", "endsWith", "contains"})


def _clauses(spec: Any) -> Iterator[Finding]:
    for loc, listed in clauses(spec):
        for number, clause in enumerate(listed):
            op, values = at(clause, "op"), at(clause, "values")
            if isinstance(op, str) and (values is None or isinstance(values, list)):
                yield from _values((*loc, number), op, items(values))


def _values(loc: Loc, op: str, values: list[Any]) -> Iterator[Finding]:
    if op in _VALUELESS:
        if values:
            yield Finding((*loc, "values"), f"the operator {op!r} takes no values", "remove them")
        return
    place: Loc = (*loc, "values")
    if not values:
        yield Finding(loc, f"the operator {op!r} requires values", "add values: [VALUE]")
    elif (op in _NUMBERS or op.startswith("semver")) and len(values) > 1:
        yield Finding(
            place, f"the operator {op!r} takes one value, found {len(values)}", "remove all but one"
        )
    yield from check_values(place, values)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            continue
        if op in _NUMBERS and not (_NUMBER.fullmatch(value) and abs(int(value)) <= _MAX_NUMBER):
            yield Finding(
                (*place, number),
                f"{value[:40]!r} is not a valid whole number",
                'expected a quoted whole number from -2^62 to 2^62 without leading zeros, such as "18"',
            )
        if op.startswith("semver") and not _VERSION.fullmatch(value):
            yield Finding(
                (*place, number),
                f"{value[:40]!r} is not a valid version",
                'expected three numbers below a million without leading zeros, such as "2.3.0"',
            )
    if op == "matches":
        yield from _expressions(loc, values)


def _expressions(loc: Loc, values: list[Any]) -> Iterator[Finding]:
    size, invalid = 0, False
    for number, value in enumerate(values):
        try:
            size += expanded_length(value) if isinstance(value, str) else 0
        except RegexError as error:
            yield Finding(
                (*loc, "values", number),
                f"'{value[:40]}' is not a supported regular expression: {error}",
                "use syntax that RE2 and Python share; the expression must match the whole value",
            )
            invalid = True
    if size > MAX_EXPANDED:
        yield Finding(
            (*loc, "values"),
            f"the regular expressions have {size} characters after expansion of repetitions",
            f"at most {MAX_EXPANDED} are allowed",
        )
    elif size and not invalid:
        message = "a regular expression is slower than in, startsWith, endsWith or contains"
        yield Finding((*loc, "op"), message, "", warning=True)


def _targets(spec: Any) -> Iterator[Finding]:
    covered: dict[str, set[str]] = {}
    for number, target in enumerate(items(at(spec, "targeting", "targets"))):
        loc: Loc = ("spec", "targeting", "targets", number)
        attribute, values = at(target, "attribute"), texts(at(target, "values"))
        yield from check_values((*loc, "values"), items(at(target, "values")))
        if not isinstance(attribute, str):
            continue
        matched = covered.setdefault(attribute, set())
        if values and set(values) <= matched:
            yield Finding(
                loc,
                "is unreachable: earlier targets match all of its values",
                "remove it, or move it up",
            )
        matched.update(values)


def _rules(spec: Any) -> Iterator[Finding]:
    names: set[str] = set()
    listed = items(at(spec, "targeting", "rules"))
    for number, rule in enumerate(listed):
        loc: Loc = ("spec", "targeting", "rules", number)
        name = at(rule, "name")
        if isinstance(name, str) and name in names:
            yield Finding((*loc, "name"), f"duplicate rule name {name!r}", "use a unique name")
        elif isinstance(name, str):
            names.add(name)
        yield from _weights((*loc, "serve", "weights"), at(rule, "serve", "weights"))
        covering = next((index for index in range(number) if _covers(listed[index], rule)), None)
        if covering is not None:
            name = at(listed[covering], "name")
            other = repr(name) if isinstance(name, str) else f"rules[{covering}]"
            yield Finding(
                loc,
                f"is unreachable: the earlier rule {other} matches all of its requests",
                f"remove it, or move it above {other}",
            )


def _weights(loc: Loc, weights: Any) -> Iterator[Finding]:
    shares = [percent(weight) for weight in pairs(weights).values()]
    if isinstance(weights, dict) and None not in shares and sum(shares) != FULL:
        yield Finding(loc, f"the weights add up to {sum(shares) / 100:g} %", "expected 100 %")


def _covers(earlier: Any, later: Any) -> bool:
    """Return whether the earlier rule matches every request that the later rule matches."""
    required, given = (_conditions(at(rule, "clauses")) for rule in (earlier, later))
    return bool(required) and bool(given) and all(any(_implies(g, r) for g in given) for r in required)


class _Condition(NamedTuple):
    attribute: str
    op: str
    values: frozenset[str]


def _conditions(clauses: Any) -> list[_Condition]:
    """Return comparable clauses; an empty list if one of them has a wrong shape."""
    conditions = []
    for clause in items(clauses):
        attribute, op, values = at(clause, "attribute"), at(clause, "op"), at(clause, "values")
        readable = values is None or len(texts(values)) == len(items(values))
        if not (isinstance(attribute, str) and isinstance(op, str) and readable):
            return []
        conditions.append(_Condition(attribute, op, frozenset(texts(values))))
    return conditions


def _implies(given: _Condition, required: _Condition) -> bool:
    """Return whether every user that satisfies `given` also satisfies `required`."""
    if given.attribute != required.attribute:
        return False
    if required.op == "exists":
        return given.op not in _NEGATIVE
    if given.op != required.op:
        return False
    return given.values == required.values or (given.op in _ANY_OF and given.values <= required.values)


CHECKS: Final = (_clauses, _targets, _rules)
