"""A block of counts with everything else that the analysis used, so that it can be analyzed again (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xds_server.analysis.counts import (
    Block,
    Leg,
    block_from_json,
    block_to_json,
    leg_from_json,
    read_field,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AnalyzedBlock", "BlockContext", "analyzed_block_from_json", "analyzed_block_to_json"]

_KEY = "analysis"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockContext:
    """The arms of a block and the results of queries at its end.

    `control` is the stable backend, and `legs` are the candidates whose evidence the block was added to.
    `began` is whether their evidence began anew with this block: the run or the policy was a new one.
    `query_results` are by PromQL query; None if the query failed, and no entry if it had no result yet.
    """

    control: str
    legs: tuple[Leg, ...]
    began: bool = False
    query_results: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzedBlock:
    """A block of a run; `context` is None if an earlier version recorded the block."""

    run: int
    block: Block
    context: BlockContext | None = None


def analyzed_block_to_json(analyzed: AnalyzedBlock) -> dict[str, Any]:
    """Return a block as plain JSON values; the keys of earlier versions are kept."""
    document = {"run": analyzed.run, **block_to_json(analyzed.block)}
    context = analyzed.context
    if context is not None:
        document[_KEY] = {
            "control": context.control,
            "legs": [
                {"route": leg.route, "variant": leg.variant, "role": leg.role.value} for leg in context.legs
            ],
            **({"began": True} if context.began else {}),
            **({"queries": dict(context.query_results)} if context.query_results else {}),
        }
    return document


def analyzed_block_from_json(document: Mapping[str, Any], run: int | None = None) -> AnalyzedBlock:
    """Return the block that `analyzed_block_to_json` of this or an earlier version wrote.

    `run` replaces that of the document.

    Raises:
        ValueError: The document is not a block.
    """
    return AnalyzedBlock(
        run=read_field(document, "run", int) if run is None else run,
        block=block_from_json(document),
        context=_context(document[_KEY]) if _KEY in document else None,
    )


def _context(item: Any) -> BlockContext:
    return BlockContext(
        control=read_field(item, "control", str),
        legs=tuple(map(leg_from_json, read_field(item, "legs", list))),
        began=bool(item.get("began", False)),
        query_results=read_field({"queries": {}} | dict(item), "queries", _query_results),
    )


def _query_results(value: Any) -> dict[str, float | None]:
    return {query: None if result is None else float(result) for query, result in dict(value).items()}
