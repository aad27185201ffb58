"""Loading specs: values, positions, YAML features, and arbitrary invalid input."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.spec import Loaded, ModelRoute, check_together, digest, load
from xds_server.spec.units import (
    UnitError,
    basis_points,
    duration,
    duration_text,
    percent_number,
    size,
    size_text,
)

GOOD = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat, labels: {team: platform}}
spec:
  proxies: {group: chat}
  match: {hosts: [Chat.example.com], path: {prefix: /v1/}}
  backends:
    - {name: v1, endpoints: ["10.0.0.1:8000", "[::1]:9000"]}
    - {name: "no", dns: "vllm.prod.svc:8000"}
  stable: v1
  candidate: no
  attributes: {user.id: {header: X-User-Id}}
  strategy:
    canary:
      stickiness: {attribute: user.id, salt: "0x10"}
      steps: [{setWeight: 12.5}, {pause: {duration: 1h30m}}, {setWeight: 100}]
"""


def read(text: str) -> Loaded:
    return load(text, file="x.yaml")


def messages(text: str) -> list[str]:
    return [str(problem) for problem in read(text).problems]


def good() -> ModelRoute:
    loaded = read(GOOD)
    assert loaded.ok, messages(GOOD)
    return loaded.routes[0]


def test_a_valid_spec_has_the_values_of_its_text() -> None:
    route = good()
    spec = route.spec
    assert (route.metadata.name, route.metadata.labels) == ("chat", {"team": "platform"})
    assert spec.match.hosts == ("chat.example.com",)
    assert [(e.host, e.port) for e in spec.backends[0].endpoints or ()] == [("10.0.0.1", 8000), ("::1", 9000)]
    assert spec.backends[1].dns is not None
    assert (spec.candidate, spec.backends[1].name) == ("no", "no"), "unquoted no is text"
    assert spec.attributes["user.id"].header == "x-user-id"
    assert spec.strategy is not None
    assert spec.strategy.canary is not None
    assert spec.strategy.canary.steps is not None
    assert spec.strategy.canary.steps[0].set_weight == 1_250
    assert spec.strategy.canary.steps[1].pause is not None
    assert spec.strategy.canary.steps[1].pause.duration == timedelta(hours=1, minutes=30)
    assert spec.timeouts.idle == timedelta(minutes=5)


def test_a_dumped_route_loads_as_the_same_route() -> None:
    route = good()
    values = route.model_dump(mode="json", by_alias=True, exclude_none=True)
    again = read(yaml.safe_dump(values))
    assert again.ok
    assert digest(again.routes[0]) == digest(route)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("  stable: v1\n", "").replace(
            "spec:\n", "spec:\n  stable: 'v1'  # first\n"
        ),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "---\n" + text + "...\n",
        lambda text: text.replace("1h30m", "90m"),
        lambda text: text.replace("12.5", "12.50"),
    ],
)
def test_notation_does_not_change_the_digest(change: Any) -> None:
    assert digest(read(change(GOOD)).routes[0]) == digest(good())


@pytest.mark.parametrize(
    ("old", "new"), [("12.5", "12.6"), ("1h30m", "91m"), ("/v1/", "/v2/"), ("8000", "8001"), ("0x10", "16")]
)
def test_a_changed_value_changes_the_digest(old: str, new: str) -> None:
    assert digest(read(GOOD.replace(old, new)).routes[0]) != digest(good())


def test_the_text_of_each_document_loads_by_itself() -> None:
    loaded = read(
        GOOD + "---\n# another\n" + GOOD.replace("name: chat,", "name: other,").replace("/v1/", "/v2/")
    )
    assert [document.line for document in loaded.documents] == [1, 19]
    for document in loaded.documents:
        assert digest(read(document.text).routes[0]) == digest(document.route)


def test_anchors_and_merge_keys_work() -> None:
    text = GOOD.replace("backends:\n    - {name: v1,", "backends:\n    - &a {name: v1,").replace(
        '{name: "no", dns: "vllm.prod.svc:8000"}', '{<<: *a, name: "no", endpoints: ["10.0.0.2:8000"]}'
    )
    assert messages(text) == []
    assert read(text).routes[0].spec.backends[1].name == "no"


def test_an_alias_bomb_is_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert any("more than 50000 values" in line for line in messages("\n".join(lines)))


@pytest.mark.parametrize(
    "text",
    ["[" * 3_000, "{a: " * 3_000, "- " * 3_000, "x" * (2 << 20), "? " * 2_000, "&a *a", "%YAML 9.9\n--- a"],
)
def test_unparsable_text_is_reported(text: str) -> None:
    assert messages(text)


def test_a_conflict_between_files_names_the_other_route() -> None:
    other = load(GOOD.replace("name: chat,", "name: other,"), file="y.yaml")
    (problem,) = check_together([read(GOOD), other])
    assert str(problem).startswith(
        "y.yaml:6:3: spec.match: two routes match host 'chat.example.com' and path '/v1/*' in group 'chat'"
    )
    assert "'chat' in x.yaml:1" in str(problem)
    assert check_together([read(GOOD)]) == ()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_reported_as_problems(text: str) -> None:
    assert read(text).problems


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_of_a_valid_spec_loads_or_is_reported(data: st.DataObject) -> None:
    values = copy.deepcopy(yaml.safe_load(GOOD))
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = values
        while isinstance(node, dict | list) and node:
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.integers(0, 3)) == 0:
                if isinstance(node, dict) and data.draw(st.booleans()):
                    node.pop(key)
                else:
                    node[key] = data.draw(VALUE)
                break
            node = node[key]
    loaded = read(yaml.safe_dump(values, allow_unicode=True))
    assert bool(loaded.routes) == loaded.ok
    for problem in loaded.problems:
        assert "\n" not in str(problem)
        assert problem.message


@given(st.integers(0, 365 * 86_400_000).map(lambda ms: timedelta(milliseconds=ms)))
def test_a_duration_survives_formatting(value: timedelta) -> None:
    assert duration(duration_text(value)) == value


@given(st.integers(0, 1 << 36))
def test_a_size_survives_formatting(value: int) -> None:
    assert size(size_text(value)) == value


@given(st.integers(0, 10_000))
def test_a_percentage_survives_formatting(value: int) -> None:
    assert basis_points(percent_number(value)) == value


@pytest.mark.parametrize(
    "value", ["5", 5, 1.5, True, None, "1 h", "h", "1h 30m", "-1s", "1e3s", "400d", [], {}, ""]
)
def test_an_invalid_duration_is_rejected(value: object) -> None:
    with pytest.raises(UnitError):
        duration(value)


@pytest.mark.parametrize("value", ["5", 5, True, None, "1.5MiB", "-1MiB", "1mib", "MiB", []])
def test_an_invalid_size_is_rejected(value: object) -> None:
    with pytest.raises(UnitError):
        size(value)


@pytest.mark.parametrize(
    "value", [True, None, "5", "5%", -0.01, 100.01, 0.001, float("nan"), float("inf"), []]
)
def test_an_invalid_percentage_is_rejected(value: object) -> None:
    with pytest.raises(UnitError):
        basis_points(value)
