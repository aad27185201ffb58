"""Unreachable rules are errors, reachable rules are not."""

from __future__ import annotations

import pytest

from xds_server.spec import load

ROUTE = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  proxies: {group: chat}
  backends:
    - {name: v1, endpoints: ["10.0.0.1:8000"]}
    - {name: v2, endpoints: ["10.0.0.2:8000"]}
  stable: v1
  attributes: {a: {header: x-a}, b: {header: x-b}}
  targeting:
    rules:
"""


def rule(name: str, *clauses: str) -> str:
    return f"      - {{name: {name}, serve: v2, clauses: [{', '.join(clauses)}]}}\n"


def messages(*rules: str) -> list[str]:
    return [problem.message for problem in load(ROUTE + "".join(rules), file="x.yaml").problems]


EXISTS = "{attribute: a, op: exists}"
ABSENT = "{attribute: a, op: notExists}"


def a(op: str, *values: str) -> str:
    return f"{{attribute: a, op: {op}, values: [{', '.join(repr(value) for value in values)}]}}"


def b(op: str, *values: str) -> str:
    return a(op, *values).replace("attribute: a", "attribute: b")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([a("in", "x")], [a("in", "x")]),
        ([a("in", "x", "y")], [a("in", "y")]),
        ([a("in", "x", "y")], [a("in", "y", "x")]),
        ([a("startsWith", "x", "y")], [a("startsWith", "y"), b("in", "z")]),
        ([a("endsWith", "x", "y")], [a("endsWith", "y")]),
        ([a("contains", "x", "y")], [a("contains", "y")]),
        ([a("notIn", "x")], [a("notIn", "x"), b("in", "z")]),
        ([a("lessThan", "7")], [b("in", "z"), a("lessThan", "7")]),
        ([ABSENT], [ABSENT]),
        ([EXISTS], [a("in", "x")]),
        ([EXISTS], [a("semverLessThan", "1.0.0")]),
        ([EXISTS, b("in", "z", "y")], [a("contains", "x"), b("in", "z")]),
    ],
)
def test_a_rule_covered_by_an_earlier_rule_is_an_error(earlier: list[str], later: list[str]) -> None:
    assert messages(rule("one", *earlier), rule("two", *later)) == [
        "is unreachable: the earlier rule 'one' matches all of its requests"
    ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([a("in", "x")], [a("in", "x", "y")]),
        ([a("in", "x")], [b("in", "x")]),
        ([a("in", "x"), b("in", "z")], [a("in", "x")]),
        ([a("notIn", "x", "y")], [a("notIn", "y")]),
        ([a("startsWith", "x")], [a("endsWith", "x")]),
        ([a("lessThan", "7")], [a("lessThan", "6")]),
        ([EXISTS], [ABSENT]),
        ([EXISTS], [a("notIn", "x")]),
        ([EXISTS], [b("in", "x")]),
        ([ABSENT], [EXISTS]),
    ],
)
def test_a_reachable_rule_is_valid(earlier: list[str], later: list[str]) -> None:
    assert messages(rule("one", *earlier), rule("two", *later)) == []


@pytest.mark.parametrize("value", ["0", "-1", "18", str(1 << 62), str(-(1 << 62))])
def test_whole_numbers_are_valid_operands(value: str) -> None:
    assert messages(rule("one", a("greaterThan", value))) == []


@pytest.mark.parametrize("value", ["0.0.0", "1.2.3", "999999.999999.999999"])
def test_versions_are_valid_operands(value: str) -> None:
    assert messages(rule("one", a("semverGreaterOrEqual", value))) == []
