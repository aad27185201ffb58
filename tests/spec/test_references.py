"""Strategies by their name: where they are found, and what is kept of a route that refers to one."""

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


def said(*documents: str) -> list[str]:
    return [str(problem) for problem in read(*documents).problems]


def growth(loaded: Loaded) -> Growth:
    strategy = loaded.routes[0].spec.strategy
    assert strategy is not None
    assert strategy.strategy_ref is not None, "what was written stays"
    assert strategy.growth is not None
    return strategy.growth


@pytest.mark.parametrize("documents", [(STRATEGY, ROUTE), (ROUTE, STRATEGY), (STRATEGY, ROUTE, STRATEGY)])
def test_a_strategy_of_the_file_is_found(documents: tuple[str, ...]) -> None:
    assert said(*documents) == []
    found = growth(read(*documents))
    assert (found.growth_type, found.growth_factor) == ("Linear", 2_500)
    assert found.deployment_duration == timedelta(minutes=20)
    assert found.final_bake_time == timedelta(minutes=10)
    assert found.stickiness is not None
    assert (found.stickiness.attribute, found.stickiness.salt) == ("user.id", "s")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_found_and_runs(name: str) -> None:
    loaded = read(ROUTE.replace("Quarters", name))
    assert loaded.ok
    assert growth(loaded).growth_factor == PRESETS[name].growth_factor
    assert program(loaded.routes[0]).steps
    assert loaded.documents[0].text == ROUTE.replace("Quarters", name), "a preset needs no text of its own"


def test_it_means_the_same_as_the_growth_written_out() -> None:
    written = ROUTE.replace(
        "strategyRef: {name: Quarters,",
        "growth: {growthFactor: 25, deploymentDuration: 20m, finalBakeTime: 10m,",
    )
    assert program(read(written).routes[0]) == program(read(STRATEGY, ROUTE).routes[0])


@pytest.mark.parametrize("documents", [(STRATEGY, ROUTE, OTHER), (OTHER, "# mine\n" + STRATEGY, ROUTE)])
def test_the_text_of_a_document_stands_for_itself(documents: tuple[str, ...]) -> None:
    loaded = read(*documents)
    assert loaded.ok
    assert len(loaded.documents) == 2
    for document in loaded.documents:
        again = read(document.text)
        assert again.ok
        assert [digest(route) for route in again.routes] == [digest(document.route)]
        assert again.documents[0].text == document.text
    together = read(*(document.text for document in loaded.documents))
    assert together.ok, "several documents may bring the same strategy along"
    assert [digest(route) for route in together.routes] == [digest(route) for route in loaded.routes]


def test_another_growth_is_another_route() -> None:
    changed = STRATEGY.replace("25", "50")
    assert digest(read(STRATEGY, ROUTE).routes[0]) != digest(read(changed, ROUTE).routes[0])


def test_two_strategies_of_one_name_are_one_or_an_error() -> None:
    respelled = STRATEGY.replace("20m", "1200s")
    assert said(STRATEGY, ROUTE, respelled) == []
    (problem,) = said(STRATEGY, ROUTE, STRATEGY.replace("20m", "21m"))
    assert problem.endswith("strategy 'Quarters' is defined twice, and not alike; the other is in line 1")
    assert problem.startswith("x.yaml:22:12: metadata.name")


def test_a_name_that_nothing_has() -> None:
    loaded = read(STRATEGY, ROUTE.replace("name: Quarters", "name: Quarter"))
    assert loaded.documents == ()
    (problem,) = loaded.problems
    assert str(problem).startswith(
        "x.yaml:18:19: spec.strategy.strategyRef.name: there is no strategy 'Quarter'"
    )
    assert "did you mean 'Quarters'?; allowed: Quarters, AllAtOnce, " in str(problem)


def test_a_broken_strategy_is_said_once() -> None:
    loaded = read(STRATEGY.replace("growthFactor", "growthFacto"), ROUTE)
    assert loaded.documents == ()
    assert [problem.path for problem in loaded.problems] == ["spec.growthFactor", "spec.growthFacto"]


def test_a_strategy_may_hide_a_preset_but_not_silently() -> None:
    loaded = read(STRATEGY.replace("Quarters", "AllAtOnce"), ROUTE.replace("Quarters", "AllAtOnce"))
    assert loaded.ok
    assert growth(loaded).growth_factor == 2_500
    assert ["hides the preset" in problem.message for problem in loaded.problems] == [True]
    assert growth(read(loaded.documents[0].text)).growth_factor == 2_500


def test_strategies_alone_are_no_route() -> None:
    (problem,) = said(STRATEGY)
    assert problem.startswith("x.yaml:1:1: the file holds no route; ")
