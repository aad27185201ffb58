"""Targets, rules and clauses: values their operators can use, and nothing that no request would reach."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.attributes import clauses
from xds_server.spec.check.regex import MOST_EXPANDED, RegexError, expanded
from xds_server.spec.check.values import FULL, at, items, pairs, percent, texts, values_of
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_MOST_WHOLE: Final = 1 << 62
_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}")
_NONE: Final = frozenset({"exists", "notExists"})
_NUMBERS: Final = frozenset({"greaterThan", "greaterOrEqual", "lessThan", "lessOrEqual"})
_NEGATIVE: Final = frozenset({"notIn", "notExists"})
_LISTS: Final = frozenset({"in", "startsWith", "endsWith", "contains"})


def _clauses(spec: Any) -> Iterator[Finding]:
    for loc, listed in clauses(spec):
        for number, clause in enumerate(listed):
            op, values = at(clause, "op"), at(clause, "values")
            if isinstance(op, str) and (values is None or isinstance(values, list)):
                yield from _values((*loc, number), op, items(values))


def _values(loc: Loc, op: str, values: list[Any]) -> Iterator[Finding]:
    if op in _NONE:
        if values:
            yield Finding((*loc, "values"), f"{op} takes no values", "leave them away")
        return
    place: Loc = (*loc, "values")
    if not values:
        yield Finding(loc, f"{op} has nothing to compare with", "values: with at least one entry is needed")
    elif (op in _NUMBERS or op.startswith("semver")) and len(values) > 1:
        yield Finding(place, f"{op} compares with one value, and there are {len(values)}", "give one")
    yield from values_of(place, values)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            continue
        if op in _NUMBERS and not (_WHOLE.fullmatch(value) and abs(int(value)) <= _MOST_WHOLE):
            yield Finding(
                (*place, number),
                f"{value[:40]!r} is not a whole number",
                'a whole number in quotes is needed, such as "18", at most 2^62',
            )
        if op.startswith("semver") and not _VERSION.fullmatch(value):
            yield Finding(
                (*place, number),
                f"{value[:40]!r} is not a version",
                'three numbers below a million are needed, without leading zeros, such as "2.3.0"',
            )
    if op == "matches":
        yield from _expressions(loc, values)


def _expressions(loc: Loc, values: list[Any]) -> Iterator[Finding]:
    size, wrong = 0, False
    for number, value in enumerate(values):
        try:
            size += expanded(value) if isinstance(value, str) else 0
        except RegexError as error:
            yield Finding(
                (*loc, "values", number),
                f"{value[:40]!r} is no regular expression for a proxy: {error}",
                "RE2 syntax is allowed; it must match the whole value",
            )
            wrong = True
    if size > MOST_EXPANDED:
        yield Finding(
            (*loc, "values"),
            f"with its counts written out it has {size} characters",
            f"at most {MOST_EXPANDED} are allowed",
        )
    elif size and not wrong:
        said = "a regular expression is slower than in, startsWith, endsWith or contains"
        yield Finding((*loc, "op"), said, "", warning=True)


def _targets(spec: Any) -> Iterator[Finding]:
    before: dict[str, set[str]] = {}
    for number, target in enumerate(items(at(spec, "targeting", "targets"))):
        loc: Loc = ("spec", "targeting", "targets", number)
        attribute, values = at(target, "attribute"), texts(at(target, "values"))
        yield from values_of((*loc, "values"), items(at(target, "values")))
        if not isinstance(attribute, str):
            continue
        taken = before.setdefault(attribute, set())
        if values and set(values) <= taken:
            yield Finding(
                loc,
                "no request gets here: targets above have all of its values",
                "take it out, or move it up",
            )
        taken.update(values)


def _rules(spec: Any) -> Iterator[Finding]:
    names: set[str] = set()
    listed = items(at(spec, "targeting", "rules"))
    for number, rule in enumerate(listed):
        loc: Loc = ("spec", "targeting", "rules", number)
        name = at(rule, "name")
        if isinstance(name, str) and name in names:
            yield Finding((*loc, "name"), f"{name!r} is the name of two rules", "names must differ")
        elif isinstance(name, str):
            names.add(name)
        yield from _weights((*loc, "serve", "weights"), at(rule, "serve", "weights"))
        covering = next((r for r in listed[:number] if _covers(r, rule)), None)
        if covering is not None:
            other = at(covering, "name")
            yield Finding(
                loc,
                f"no request gets here: rule {other!r} above has them all",
                f"take it out, or move it above {other!r}",
            )


def _weights(loc: Loc, weights: Any) -> Iterator[Finding]:
    shares = [percent(weight) for weight in pairs(weights).values()]
    if isinstance(weights, dict) and None not in shares and sum(shares) != FULL:
        yield Finding(loc, f"the weights are {sum(shares) / 100:g} % together", "100 are needed")


def _covers(earlier: Any, later: Any) -> bool:
    """Return whether whoever a later rule is about is taken by an earlier one already."""
    wanted, given = (_comparable(at(rule, "clauses")) for rule in (earlier, later))
    return bool(wanted) and bool(given) and all(any(_implies(g, w) for g in given) for w in wanted)


def _comparable(listed: Any) -> list[tuple[str, str, frozenset[str]]]:
    found = []
    for clause in items(listed):
        attribute, op, values = at(clause, "attribute"), at(clause, "op"), at(clause, "values")
        readable = values is None or len(texts(values)) == len(items(values))
        if not (isinstance(attribute, str) and isinstance(op, str) and readable):
            return []
        found.append((attribute, op, frozenset(texts(values))))
    return found


def _implies(given: tuple[str, str, frozenset[str]], wanted: tuple[str, str, frozenset[str]]) -> bool:
    if given[0] != wanted[0]:
        return False
    if wanted[1] == "exists":
        return given[1] not in _NEGATIVE
    if given[1] != wanted[1]:
        return False
    return given[2] == wanted[2] or (given[1] in _LISTS and given[2] <= wanted[2])


CHECKS: Final = (_clauses, _targets, _rules)
