"""Blocks of evidence as they are written: counted in memory, kept in the batch's transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mirror_collector.compare import VERSION, Block, block_of, has_floor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirror_collector.compare import ComparedPair
    from mirror_collector.store.connection import Engine

__all__ = ["EvidenceWriter"]

_Key: TypeAlias = tuple[str, str, str, int]
_ASK: Final = 200


class EvidenceWriter:
    """The blocks of now. `add` belongs into a transaction; `commit` comes after it."""

    def __init__(self, engine: Engine) -> None:
        """Go on where the store stands."""
        self._engine = engine
        self.seq: int = engine.rows("SELECT COALESCE(MAX(seq), 0) FROM evidence")[0][0]
        self._blocks: dict[_Key, Block] = {}
        self._pending: dict[_Key, Block] = {}
        self._next = self.seq

    def add(self, compared: Sequence[ComparedPair], hashed: Callable[[str], bytes], now: float) -> None:
        """Count pairs and write the blocks they are in."""
        self._pending, self._next = {}, self.seq
        begins = block_of(now)
        fresh = self._freshness(compared, hashed, now)
        for one, (counts, floor_counts) in zip(compared, fresh, strict=True):
            pair = one.pair
            key = (pair.primary.route, pair.primary.variant, pair.shadow.variant, begins)
            block = self._pending.get(key) or self._take(key)
            block.add(one.comparison, fresh=counts, fresh_floor=floor_counts)
            self._pending[key] = block
        if not self._pending:
            return
        self._next += 1
        self._engine.many(
            "INSERT INTO evidence (route, primary_variant, shadow_variant, comparator, block, seq, counts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (route, primary_variant, shadow_variant, comparator, block)"
            " DO UPDATE SET seq = excluded.seq, counts = excluded.counts",
            [
                (*key[:3], VERSION, key[3], self._next, json.dumps(block.to_json()))
                for key, block in self._pending.items()
            ],
        )

    def commit(self) -> None:
        """Take over what was written."""
        if self._pending:
            newest = max(key[3] for key in self._pending)
            kept = {key: block for key, block in self._blocks.items() if key[3] >= newest}
            self._blocks = {**kept, **self._pending}
            self.seq, self._pending = self._next, {}

    def _take(self, key: _Key) -> Block:
        """Return a block to count on in: a copy, as the transaction may fail."""
        known = self._blocks.get(key)
        if known is not None:
            return Block.from_json(known.to_json())
        rows = self._engine.rows(
            "SELECT counts FROM evidence WHERE route = ? AND primary_variant = ? AND shadow_variant = ?"
            " AND comparator = ? AND block = ?",
            (*key[:3], VERSION, key[3]),
        )
        return Block.from_json(json.loads(rows[0][0])) if rows else Block()

    def _freshness(
        self, compared: Sequence[ComparedPair], hashed: Callable[[str], bytes], now: float
    ) -> list[tuple[bool, bool]]:
        """Say of each pair whether its user or session was counted before, alone and with a second answer."""
        keys: list[tuple[str, str, str, bytes] | None] = []
        for one in compared:
            primary, shadow = one.pair.primary, one.pair.shadow
            unit = hashed(primary.unit) if primary.unit else b""
            keys.append((primary.route, primary.variant, shadow.variant, unit) if unit else None)
        seen = self._seen({key for key in keys if key is not None})
        found: list[tuple[bool, bool]] = []
        touched: dict[tuple[str, str, str, bytes], int] = {}
        for one, key in zip(compared, keys, strict=True):
            if key is None or one.comparison.client_left or one.comparison.limited:
                found.append((True, True))
                continue
            before = seen.get(key)
            floor = has_floor(one.comparison)
            found.append((before is None, not before))
            seen[key] = touched[key] = int(bool(before) or floor)
        self._engine.many(
            "INSERT INTO seen_units VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (route, primary_variant, shadow_variant, unit)"
            " DO UPDATE SET floored = excluded.floored, last_at = excluded.last_at",
            [(*key, floored, now) for key, floored in touched.items()],
        )
        return found

    def _seen(self, keys: set[tuple[str, str, str, bytes]]) -> dict[tuple[str, str, str, bytes], int]:
        found: dict[tuple[str, str, str, bytes], int] = {}
        units = sorted({key[3] for key in keys})
        for start in range(0, len(units), _ASK):
            some = units[start : start + _ASK]
            marks = ", ".join("?" * len(some))
            rows: list[Any] = self._engine.rows(
                "SELECT route, primary_variant, shadow_variant, unit, floored"  # noqa: S608 - marks only
                " FROM seen_units"
                f" WHERE unit IN ({marks})",
                some,
            )
            found.update({(a, b, c, bytes(unit)): floored for a, b, c, unit, floored in rows})
        return found
