"""Measuring stored pairs again, after the comparison has changed.

What was kept is what is measured: redacted messages, and nothing where messages were not kept. Sums and
evidence of the present comparison are made anew from the pairs there are; those of earlier comparisons stay
as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare import VERSION, Block, PairTally, Replies, block_of, compare
from mirror_collector.exchange import Pair, Reply, ReplyKind
from mirror_collector.store.codec import flags_of, leg_of, summary_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import Comparison
    from mirror_collector.compare.embedding import Embedder
    from mirror_collector.store.connection import Engine
    from mirror_collector.store.reader import Reader, StoredLeg, StoredPair

__all__ = ["Recompared", "recompare"]

_STEP: Final = 200


@dataclass(slots=True, kw_only=True)
class Recompared:
    """What became of the pairs; those without messages keep the figures they had."""

    measured: int = 0
    without_messages: int = 0
    tallies: dict[tuple[str, str, str], PairTally] = field(default_factory=dict)
    blocks: dict[tuple[str, str, str, int], Block] = field(default_factory=dict)


def recompare(
    engine: Engine, reader: Reader, progress: Callable[[int], None], embedder: Embedder | None = None
) -> Recompared:
    """Measure all pairs again; all or nothing. `progress` is told how many are done."""
    done = Recompared()
    with engine.transaction():
        rows: list[tuple[Any, ...]] = []
        for stored in reader.every(None):
            pair, replies = _read(stored)
            if pair is None or replies is None:
                done.without_messages += 1
                continue
            found = compare(pair, replies, embedder=embedder)
            _count(done, pair, found, stored.listed["stored_at"])
            rows.append(_row(stored, pair, found))
            if len(rows) == _STEP:
                _write(engine, rows)
                progress(done.measured)
        _write(engine, rows)
        _replace_sums(engine, done)
    progress(done.measured)
    return done


def _read(stored: StoredPair) -> tuple[Pair | None, Replies | None]:
    legs = {role: _leg(stored, leg) for role, leg in stored.legs.items()}
    primary, shadow, noise = (legs.get(role) for role in ("primary", "shadow", "noise"))
    if primary is None or shadow is None:
        return None, None
    pair = Pair(primary=primary[0], shadow=shadow[0], noise=None if noise is None else noise[0])
    return pair, Replies(primary=primary[1], shadow=shadow[1], noise=None if noise is None else noise[1])


def _leg(stored: StoredPair, leg: StoredLeg) -> tuple[Any, Reply] | None:
    if leg.reply is None or (leg.reply.kind is ReplyKind.OPAQUE and not leg.response):
        return None
    listed = stored.listed
    return (
        leg_of(leg.document, listed["route"], listed["request_id"], leg.request, leg.response),
        leg.reply,
    )


def _count(done: Recompared, pair: Pair, found: Comparison, stored_at: float) -> None:
    done.measured += 1
    key = (pair.primary.route, pair.primary.variant, pair.shadow.variant)
    done.tallies.setdefault(key, PairTally()).add(found)
    # Whose request it was is known as a hash only, and who came first no more: each counts as its own.
    done.blocks.setdefault((*key, block_of(stored_at)), Block()).add(found, fresh=True, fresh_floor=True)


def _row(stored: StoredPair, pair: Pair, found: Comparison) -> tuple[Any, ...]:
    summary = summary_document(pair, found) | {
        name: stored.listed[name] for name in ("method", "path") if name in stored.listed
    }
    return (
        found.similarity,
        orjson.dumps(summary).decode(),
        VERSION,
        flags_of(found),
        found.length_ratio,
        int(stored.listed["id"]),
    )


def _write(engine: Engine, rows: list[tuple[Any, ...]]) -> None:
    engine.many(
        "UPDATE pairs SET similarity = ?, summary = ?, comparator = ?, flags = ?, length_ratio = ?"
        " WHERE id = ?",
        rows,
    )
    rows.clear()


def _replace_sums(engine: Engine, done: Recompared) -> None:
    seq = engine.rows("SELECT COALESCE(MAX(seq), 0) + 1 FROM evidence")[0][0]
    engine.run("DELETE FROM pair_tallies WHERE comparator = ?", (VERSION,))
    engine.run("DELETE FROM evidence WHERE comparator = ?", (VERSION,))
    engine.many(
        "INSERT INTO pair_tallies (route, primary_variant, shadow_variant, comparator, tally)"
        " VALUES (?, ?, ?, ?, ?)",
        [(*key, VERSION, json.dumps(tally.to_json())) for key, tally in done.tallies.items()],
    )
    engine.many(
        "INSERT INTO evidence (route, primary_variant, shadow_variant, comparator, block, seq, counts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*key[:3], VERSION, key[3], seq, json.dumps(block.to_json())) for key, block in done.blocks.items()],
    )
