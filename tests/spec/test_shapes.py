"""Every error in a spec has a message in terms of the spec, and valid specs survive a round trip."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from xds_server.spec import digest, load
from xds_server.spec.analysis import Guards
from xds_server.spec.shape import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "envoy" / "examples").glob("*.yaml"))
FULL = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  proxies: {group: chat}
  backends:
    - {name: v1, endpoints: ["10.0.0.1:8000"]}
    - {name: v2, endpoints: ["10.0.0.2:8000"], healthCheck: {path: /live}}
  stable: v1
  candidate: v2
  attributes:
    user.id: {header: x-user-id}
    org: {claim: realm.org}
    age: {claim: age, provider: id}
  jwtProviders:
    id: {issuer: me, audiences: [chat], jwks: {inline: '{"keys": [{"kty": "EC"}]}'}}
  killSwitch: {enabled: false, serve: v2}
  targeting:
    targets: [{attribute: org, values: [acme], serve: v2}]
    rules:
      - {name: old, clauses: [{attribute: age, op: greaterThan, values: ["65"]}], serve: v1}
      - name: split
        clauses: [{attribute: age, op: exists}, {attribute: org, op: notIn, values: [a, b]}]
        serve: {weights: {v1: 80, v2: 20}, stickiness: {attribute: user.id, salt: s}}
  strategy:
    shadow:
      percentage: 5
      match: [{attribute: org, op: in, values: [acme]}]
      maxTokensPerSecond: 100
      promotion: {minPairs: 10}
    canary: {stickiness: {attribute: user.id}, stepWeights: [5, 100], interval: 1h}
  prompt:
    versions: {"3": {system: Be kind.}, "4": {system: Be brief., mode: Append}}
    default: "3"
    rollout: {stickiness: {attribute: org}, weights: {"4": 10}}
    overrides: [{attribute: org, values: [acme], version: "4"}]
"""
OTHERS = [
    path.read_text(encoding="utf-8") for path in EXAMPLES if "DeploymentStrategy" not in path.read_text()
]
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def test_the_full_spec_is_valid() -> None:
    assert [str(problem) for problem in load(FULL, file="x.yaml").problems] == []


@pytest.mark.parametrize("text", [FULL, *OTHERS], ids=range(1 + len(OTHERS)))
def test_a_dumped_spec_loads_as_the_same_spec(text: str) -> None:
    (route,) = load(text, file="x.yaml").routes
    values = route.model_dump(mode="json", by_alias=True, exclude_none=True)
    if route.spec.strategy is not None and route.spec.strategy.strategy_ref is not None:
        del values["spec"]["strategy"]["growth"]
    again = load(yaml.safe_dump(values), file="x.yaml")
    assert [str(problem) for problem in again.problems] == []
    assert digest(again.routes[0]) == digest(route)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_problem_has_a_message_in_terms_of_the_spec(data: st.DataObject) -> None:
    values = copy.deepcopy(yaml.safe_load(data.draw(st.sampled_from([FULL, FULL, FULL, *OTHERS]))))
    for _ in range(data.draw(st.integers(1, 3))):
        _change(data, values)
    loaded = load(yaml.safe_dump(values, allow_unicode=True), file="x.yaml")
    assert bool(loaded.routes) == loaded.ok
    for problem in loaded.problems:
        assert "\n" not in str(problem)
        assert problem.message
        assert "not allowed here" not in problem.message, "a kind of error without a message"
        assert not re.search(r"\[(key|backend|split)\]|function-|Input should", str(problem)), problem


def _change(data: st.DataObject, values: Any) -> None:
    node = values
    while isinstance(node, dict | list) and node:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 4)) == 0:
            match data.draw(st.integers(0, 2)):
                case 0 if isinstance(node, dict):
                    node.pop(key)
                case 1 if isinstance(node, dict):
                    node[data.draw(st.sampled_from(["nane", "serv", "value", "weight", "steps"]))] = inner
                case _:
                    node[key] = data.draw(VALUE)
            return
        node = inner


def _choices(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[TypeAdapter[Any], Any]]:
    """Yield each value of each field that allows only certain texts, with the type of the field."""
    if model in seen:
        return
    seen.add(model)
    for field in model.model_fields.values():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _choices(part, seen)
            elif get_origin(part) is Literal:
                adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(field.annotation, *field.metadata, None)])  # type: ignore[arg-type]
                yield from ((adapter, value) for value in get_args(part))


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _parts(part)


def test_yaml_tools_do_not_change_the_value_of_a_choice() -> None:
    found = [pair for kind in KINDS.values() for pair in _choices(kind, set())]
    read = [(adapter, value, yaml.safe_load(f"{value}")) for adapter, value in found]
    assert {value for _, value, tool in read if tool != value} == {"off"}, (
        "a new choice that YAML 1.1 changes"
    )
    for adapter, value, tool in read:
        assert adapter.validate_python(tool) == value


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(Guards().actions())), st.sampled_from(["off", "Notify"])))
def test_a_spec_means_the_same_after_a_tool_that_writes_yaml_1_1(guards: dict[str, str]) -> None:
    values = ", ".join(f"{name}: {action}" for name, action in guards.items())
    text = f"{FULL}  analysis: {{guards: {{{values}}}}}\n"
    (before,) = load(text, file="x.yaml").routes
    (after,) = load(yaml.safe_dump(yaml.safe_load(text)), file="x.yaml").routes
    assert digest(after) == digest(before)
    assert after.spec.analysis.guards.actions() == dict.fromkeys(Guards().actions(), "Rollback") | guards
