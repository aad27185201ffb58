"""Strategy references: how they are resolved, and the stored text of a route with a reference."""

from __future__ import annotations

from datetime import timedelta

import pytest

from xds_server.rollout import program
from xds_server.spec import PRESETS, Growth, Loaded, digest, load

STRATEGY = """\
apiVersion: shiftplane.dev/v1alpha1
kind: DeploymentStrategy
metadata: {name: Quarters}
spec: {growthFactor: 25, deploymentDuration: 20m, finalBakeTime: 10m}
"""
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
  candidate: v2
  attributes: {user.id: {header: x-user-id}}
  strategy:
    strategyRef: {name: Quarters, stickiness: {attribute: user.id, salt: s}}
"""
OTHER = ROUTE.replace("name: chat}", "name: other}", 1).replace(
    "stable:", "match: {path: {prefix: /o}}\n  stable:"
)


def read(*documents: str) -> Loaded:
    return load("---\n".join(documents), file="x.yaml")


def messages(*documents: str) -> list[str]:
    return [str(problem) for problem in read(*documents).problems]


def growth(loaded: Loaded) -> Growth:
    strategy = loaded.routes[0].spec.strategy
    assert strategy is not None
    assert strategy.strategy_ref is not None, "the reference stays in the model"
    assert strategy.growth is not None
    return strategy.growth


@pytest.mark.parametrize("documents", [(STRATEGY, ROUTE), (ROUTE, STRATEGY), (STRATEGY, ROUTE, STRATEGY)])
def test_a_strategy_of_the_file_is_resolved(documents: tuple[str, ...]) -> None:
    assert messages(*documents) == []
    found = growth(read(*documents))
    assert (found.growth_type, found.growth_factor) == ("Linear", 2_500)
    assert found.deployment_duration == timedelta(minutes=20)
    assert found.final_bake_time == timedelta(minutes=10)
    assert found.stickiness is not None
    assert (found.stickiness.attribute, found.stickiness.salt) == ("user.id", "s")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_resolved_and_compiles(name: str) -> None:
    loaded = read(ROUTE.replace("Quarters", name))
    assert loaded.ok
    assert growth(loaded).growth_factor == PRESETS[name].growth_factor
    assert program(loaded.routes[0]).steps
    assert loaded.documents[0].text == ROUTE.replace("Quarters", name), "a preset adds no text"


def test_a_reference_has_the_same_program_as_an_inline_growth() -> None:
    written = ROUTE.replace(
        "strategyRef: {name: Quarters,",
        "growth: {growthFactor: 25, deploymentDuration: 20m, finalBakeTime: 10m,",
    )
    assert program(read(written).routes[0]) == program(read(STRATEGY, ROUTE).routes[0])


@pytest.mark.parametrize("documents", [(STRATEGY, ROUTE, OTHER), (OTHER, "# mine\n" + STRATEGY, ROUTE)])
def test_the_text_of_a_document_contains_its_strategy(documents: tuple[str, ...]) -> None:
    loaded = read(*documents)
    assert loaded.ok
    assert len(loaded.documents) == 2
    for document in loaded.documents:
        again = read(document.text)
        assert again.ok
        assert [digest(route) for route in again.routes] == [digest(document.route)]
        assert again.documents[0].text == document.text
    together = read(*(document.text for document in loaded.documents))
    assert together.ok, "several documents may contain the same strategy"
    assert [digest(route) for route in together.routes] == [digest(route) for route in loaded.routes]


def test_a_changed_strategy_changes_the_digest_of_the_route() -> None:
    changed = STRATEGY.replace("25", "50")
    assert digest(read(STRATEGY, ROUTE).routes[0]) != digest(read(changed, ROUTE).routes[0])


def test_duplicate_strategies_must_be_equal() -> None:
    respelled = STRATEGY.replace("20m", "1200s")
    assert messages(STRATEGY, ROUTE, respelled) == []
    (problem,) = messages(STRATEGY, ROUTE, STRATEGY.replace("20m", "21m"))
    assert problem.endswith(
        "strategy 'Quarters' is defined twice with different values; "
        "the first definition is in line 1; rename or remove one of them"
    )
    assert problem.startswith("x.yaml:22:12: metadata.name")


def test_an_unknown_strategy_is_an_error() -> None:
    loaded = read(STRATEGY, ROUTE.replace("name: Quarters", "name: Quarter"))
    assert loaded.documents == ()
    (problem,) = loaded.problems
    assert str(problem).startswith("x.yaml:18:19: spec.strategy.strategyRef.name: unknown strategy 'Quarter'")
    assert "did you mean 'Quarters'?; defined strategies: Quarters, AllAtOnce, " in str(problem)


def test_an_invalid_strategy_is_reported_once() -> None:
    loaded = read(STRATEGY.replace("growthFactor", "growthFacto"), ROUTE)
    assert loaded.documents == ()
    assert [problem.path for problem in loaded.problems] == ["spec.growthFactor", "spec.growthFacto"]


def test_overriding_a_preset_is_a_warning() -> None:
    loaded = read(STRATEGY.replace("Quarters", "AllAtOnce"), ROUTE.replace("Quarters", "AllAtOnce"))
    assert loaded.ok
    assert growth(loaded).growth_factor == 2_500
    assert ["this strategy replaces the preset" in problem.message for problem in loaded.problems] == [True]
    assert growth(read(loaded.documents[0].text)).growth_factor == 2_500


def test_a_file_without_a_route_is_an_error() -> None:
    (problem,) = messages(STRATEGY)
    assert problem.startswith("x.yaml:1:1: the file contains no route; ")
