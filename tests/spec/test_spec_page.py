"""The page about specs lists every operator, metric, strategy and preset."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xds_server.rollout import program
from xds_server.rollout.state import Bake, Pause, SetWeight
from xds_server.spec import PRESETS, load
from xds_server.spec.analysis import COMPARED
from xds_server.spec.strategies import Strategy
from xds_server.spec.targeting import OPERATORS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
CODE_WORDS = frozenset(re.findall(r"`([A-Za-z0-9-]+)`", PAGE))


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_listed(operator: str) -> None:
    assert operator in CODE_WORDS


@pytest.mark.parametrize("metric", COMPARED)
def test_every_metric_is_listed(metric: str) -> None:
    assert metric in CODE_WORDS


@pytest.mark.parametrize("strategy", [field.alias for field in Strategy.model_fields.values()])
def test_every_strategy_is_listed(strategy: str) -> None:
    assert strategy in CODE_WORDS


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_steps_of_each_preset_are_listed(name: str) -> None:
    sample = (ROOT / "envoy" / "examples" / "09-exponential.yaml").read_text(encoding="utf-8")
    steps = program(load(sample.replace("Canary10Percent20Minutes", name), file="x").routes[0]).steps
    weights = ", ".join(str(step.weight // 100) for step in steps if isinstance(step, SetWeight))
    pauses = {step.duration for step in steps if isinstance(step, Pause)}
    pace = " at once" if not pauses else ", " + "".join(_short(pause or 0) for pause in pauses) + " each"
    bake = next(step.duration for step in steps if isinstance(step, Bake))
    assert f"| `{name}` | {weights} %{pace}; {_short(bake)} bake |" in PAGE


def _short(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds >= 60 else f"{seconds:g}s"
