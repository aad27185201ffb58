"""Resolve strategy references: the DeploymentStrategy documents of a file, and the presets."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.spec.presets import PRESETS
from xds_server.spec.shape import Finding
from xds_server.spec.strategies import DeploymentStrategy, Growth, GrowthSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.spec.document import Source
    from xds_server.spec.model import ModelRoute

__all__ = ["NamedStrategy", "collect_strategies", "resolve_strategy"]


@dataclass(frozen=True, slots=True)
class NamedStrategy:
    """A DeploymentStrategy document that routes can refer to; `strategy` is None if it is invalid."""

    strategy: DeploymentStrategy | None
    source: Source


def collect_strategies(
    strategies: list[NamedStrategy],
) -> tuple[dict[str, NamedStrategy], list[tuple[Source, Finding]]]:
    """Return the strategies of a file by name, and findings about their names.

    Identical duplicates are valid: the text of each route includes the strategy that it refers to, so joining
    the texts of two routes can repeat a strategy.
    """
    by_name: dict[str, NamedStrategy] = {}
    findings: list[tuple[Source, Finding]] = []
    for one in strategies:
        name = _name(one)
        if name is None:
            continue
        first = by_name.setdefault(name, one)
        if first is not one and None not in (one.strategy, first.strategy) and one.strategy != first.strategy:
            message = f"strategy {name!r} is defined twice with different values"
            other = f"the first definition is in line {first.source.line}; rename or remove one of them"
            findings.append((one.source, Finding(("metadata", "name"), message, other)))
        if first is one and name in PRESETS:
            message = f"this strategy replaces the preset {name!r} for the routes of this file"
            findings.append((one.source, Finding(("metadata", "name"), message, "", warning=True)))
    return by_name, findings


def resolve_strategy(
    route: ModelRoute, strategies: Mapping[str, NamedStrategy]
) -> tuple[ModelRoute | None, str, Finding | None]:
    """Return the route with its resolved strategy, the text of the strategy document, and a finding.

    The text is empty if the route refers to no document of the file. The route is None if its strategy is
    unknown, which the finding reports, or invalid, which was reported for the strategy document.
    """
    strategy = route.spec.strategy
    ref = None if strategy is None else strategy.strategy_ref
    if strategy is None or ref is None:
        return route, "", None
    text, growth = "", PRESETS.get(ref.name)
    if (defined := strategies.get(ref.name)) is not None:
        if defined.strategy is None:
            return None, "", None
        text, growth = defined.source.text, defined.strategy.spec
    if growth is None:
        names = [*strategies, *(name for name in PRESETS if name not in strategies)]
        near = difflib.get_close_matches(ref.name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        message = f"unknown strategy {ref.name!r}{hint}"
        allowed = f"defined strategies: {', '.join(names)}"
        return None, "", Finding(("spec", "strategy", "strategyRef", "name"), message, allowed)
    values = {name: getattr(growth, name) for name in GrowthSpec.model_fields}
    resolved = Growth.model_construct(**values, stickiness=ref.stickiness)
    with_growth = strategy.model_copy(update={"growth": resolved})
    return (
        route.model_copy(update={"spec": route.spec.model_copy(update={"strategy": with_growth})}),
        text,
        None,
    )


def _name(strategy: NamedStrategy) -> str | None:
    if strategy.strategy is not None:
        return strategy.strategy.metadata.name
    values = strategy.source.values
    metadata = values.get("metadata") if isinstance(values, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None
