"""Repeated comparison of stored pairs, with the current version of the comparison.

Messages are compared as they were stored, which may be redacted; pairs without stored messages are skipped.
Totals and evidence of the current version are rebuilt from the compared pairs; totals and evidence of earlier
versions are not changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare import VERSION, EvidenceBlock, PairTotals, Replies, block_start, compare
from mirror_collector.exchange import Pair, Reply, ReplyKind
from mirror_collector.store.codec import flags_of, load_leg, summary_document
from mirror_collector.store.evidence_writer import UnitKey, first_of_unit, unit_key, write_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import Comparison
    from mirror_collector.compare.embedding import EmbeddingSimilarity
    from mirror_collector.exchange import Leg
    from mirror_collector.store.connection import Connection
    from mirror_collector.store.reader import StoredLeg, StoredPair, StoreReader

__all__ = ["RecompareResult", "recompare"]

_PAIRS_PER_WRITE: Final = 200


@dataclass(slots=True, kw_only=True)
class RecompareResult:
    """The number of compared pairs, and the totals and evidence rebuilt from them."""

    measured: int = 0
    without_messages: int = 0
    """Pairs without stored messages; they keep their earlier comparison."""

    totals: dict[tuple[str, str, str], PairTotals] = field(default_factory=dict)
    blocks: dict[tuple[str, str, str, int], EvidenceBlock] = field(default_factory=dict)
    units: dict[UnitKey, int] = field(default_factory=dict)
    """The users and sessions counted in `blocks`: 1 if a pair with a noise baseline was counted, else 0."""


def recompare(
    connection: Connection,
    reader: StoreReader,
    progress: Callable[[int], None],
    embedding: EmbeddingSimilarity | None = None,
) -> RecompareResult:
    """Compare all stored pairs again in one transaction; call `progress` with the number of pairs."""
    result = RecompareResult()
    with connection.transaction():
        rows: list[tuple[Any, ...]] = []
        units = dict(connection.query("SELECT id, unit FROM pairs WHERE unit IS NOT NULL"))
        for stored in reader.all_pairs(None):
            loaded = _load_pair(stored)
            if loaded is None:
                result.without_messages += 1
                continue
            pair, replies = loaded
            comparison = compare(pair, replies, embedding=embedding)
            unit = units.get(int(stored.summary["id"]))
            _count(result, pair, comparison, bytes(unit or b""), stored.summary["stored_at"])
            rows.append(_row(stored, pair, comparison))
            if len(rows) == _PAIRS_PER_WRITE:
                _write(connection, rows)
                progress(result.measured)
        _write(connection, rows)
        _replace_totals(connection, result)
    progress(result.measured)
    return result


def _load_pair(stored: StoredPair) -> tuple[Pair, Replies] | None:
    """Return a stored pair and its replies; None if the messages of the primary or shadow are missing."""
    legs = {role: _load_leg(stored, leg) for role, leg in stored.legs.items()}
    primary, shadow, noise = (legs.get(role) for role in ("primary", "shadow", "noise"))
    if primary is None or shadow is None:
        return None
    # Legs are stored without their path, which names the API.
    path = stored.summary.get("path", "")
    pair = Pair(
        primary=replace(primary[0], path=path), shadow=shadow[0], noise=None if noise is None else noise[0]
    )
    return pair, Replies(primary=primary[1], shadow=shadow[1], noise=None if noise is None else noise[1])


def _load_leg(stored: StoredPair, leg: StoredLeg) -> tuple[Leg, Reply] | None:
    if leg.reply is None or (leg.reply.kind is ReplyKind.OPAQUE and not leg.response):
        return None
    summary = stored.summary
    return (
        load_leg(leg.document, summary["route"], summary["request_id"], leg.request, leg.response),
        leg.reply,
    )


def _count(
    result: RecompareResult, pair: Pair, comparison: Comparison, unit: bytes, stored_at: float
) -> None:
    """Count a pair as on receipt: of the pairs of one user or session, only the first is evidence."""
    result.measured += 1
    key = (pair.primary.route, pair.primary.variant, pair.shadow.variant)
    result.totals.setdefault(key, PairTotals()).add(comparison)
    block = result.blocks.setdefault((*key, block_start(stored_at)), EvidenceBlock())
    seen = (*key, unit_key(unit, comparison.api)) if unit else None
    first, first_baseline = first_of_unit(result.units, seen, comparison)
    block.add(comparison, first_of_unit=first, first_baseline_of_unit=first_baseline)


def _row(stored: StoredPair, pair: Pair, comparison: Comparison) -> tuple[Any, ...]:
    summary = summary_document(pair, comparison) | {
        name: stored.summary[name] for name in ("method", "path") if name in stored.summary
    }
    return (
        comparison.similarity,
        orjson.dumps(summary).decode(),
        VERSION,
        flags_of(comparison),
        comparison.length_ratio,
        int(stored.summary["id"]),
    )


def _write(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    connection.execute_many(
        "UPDATE pairs SET similarity = ?, summary = ?, comparator = ?, flags = ?, length_ratio = ?"
        " WHERE id = ?",
        rows,
    )
    rows.clear()


def _replace_totals(connection: Connection, result: RecompareResult) -> None:
    seq = connection.query("SELECT COALESCE(MAX(seq), 0) + 1 FROM evidence")[0][0]
    connection.execute("DELETE FROM pair_tallies WHERE comparator = ?", (VERSION,))
    connection.execute("DELETE FROM evidence WHERE comparator = ?", (VERSION,))
    if result.blocks:
        write_units(connection, result.units, max(begins for *_, begins in result.blocks))
    connection.execute_many(
        "INSERT INTO pair_tallies (route, primary_variant, shadow_variant, comparator, tally)"
        " VALUES (?, ?, ?, ?, ?)",
        [(*key, VERSION, json.dumps(totals.to_json())) for key, totals in result.totals.items()],
    )
    connection.execute_many(
        "INSERT INTO evidence (route, primary_variant, shadow_variant, comparator, block, seq, counts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (*key[:3], VERSION, key[3], seq, json.dumps(block.to_json()))
            for key, block in result.blocks.items()
        ],
    )
