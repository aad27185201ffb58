"""Strategies by their name: those of a file, the presets, and the routes that refer to them."""

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

__all__ = ["Known", "collected", "resolved"]


@dataclass(frozen=True, slots=True)
class Known:
    """A strategy document that others may refer to; `strategy` is None where it could not be read."""

    strategy: DeploymentStrategy | None
    source: Source


def collected(sources: list[Known]) -> tuple[dict[str, Known], list[tuple[Source, Finding]]]:
    """Return the strategies of a file by name, and what is wrong with their names.

    The same strategy twice is fine: every route that refers to it brings it along.
    """
    known: dict[str, Known] = {}
    found: list[tuple[Source, Finding]] = []
    for one in sources:
        name = _name(one)
        if name is None:
            continue
        first = known.setdefault(name, one)
        if first is not one and None not in (one.strategy, first.strategy) and one.strategy != first.strategy:
            said = f"strategy {name!r} is defined twice, and not alike"
            found.append(
                (one.source, Finding(("metadata", "name"), said, f"the other is in line {first.source.line}"))
            )
        if first is one and name in PRESETS:
            said = f"hides the preset {name!r} from the routes of this file"
            found.append((one.source, Finding(("metadata", "name"), said, "", warning=True)))
    return known, found


def resolved(route: ModelRoute, known: Mapping[str, Known]) -> tuple[ModelRoute | None, str, Finding | None]:
    """Return a route with the growth it refers to, the text that has to go with it, and what is wrong.

    There is no route where its strategy is unknown or could not be read.
    """
    strategy = route.spec.strategy
    ref = None if strategy is None else strategy.strategy_ref
    if strategy is None or ref is None:
        return route, "", None
    text, growth = "", PRESETS.get(ref.name)
    if (own := known.get(ref.name)) is not None:
        if own.strategy is None:
            return None, "", None
        text, growth = own.source.text, own.strategy.spec
    if growth is None:
        names = [*known, *(name for name in PRESETS if name not in known)]
        near = difflib.get_close_matches(ref.name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        said, allowed = f"there is no strategy {ref.name!r}{hint}", f"allowed: {', '.join(names)}"
        return None, "", Finding(("spec", "strategy", "strategyRef", "name"), said, allowed)
    values = {name: getattr(growth, name) for name in GrowthSpec.model_fields}
    found = Growth.model_construct(**values, stickiness=ref.stickiness)
    changed = strategy.model_copy(update={"growth": found})
    return route.model_copy(update={"spec": route.spec.model_copy(update={"strategy": changed})}), text, None


def _name(known: Known) -> str | None:
    if known.strategy is not None:
        return known.strategy.metadata.name
    values = known.source.values
    metadata = values.get("metadata") if isinstance(values, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None
