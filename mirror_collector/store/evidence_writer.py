"""Writing of evidence blocks, within the transaction of the pairs they count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mirror_collector.compare import VERSION, EvidenceBlock, block_start, has_baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirror_collector.compare import ComparedPair
    from mirror_collector.store.connection import Connection

__all__ = ["EvidenceWriter"]

_BlockKey: TypeAlias = tuple[str, str, str, int]
"""Route, variant of the primary, variant of the shadow, start of the block."""

_UnitKey: TypeAlias = tuple[str, str, str, bytes]
"""Route, variant of the primary, variant of the shadow, hash of the user or session."""

_UNITS_PER_QUERY: Final = 200


class EvidenceWriter:
    """Counts pairs in the current blocks; call `add` within a transaction and `commit` after its commit."""

    def __init__(self, connection: Connection) -> None:
        """Continue with the sequence number of the last block in the store."""
        self._connection = connection
        self.seq: int = connection.query("SELECT COALESCE(MAX(seq), 0) FROM evidence")[0][0]
        self._blocks: dict[_BlockKey, EvidenceBlock] = {}
        self._pending: dict[_BlockKey, EvidenceBlock] = {}
        self._next_seq = self.seq

    def add(self, pairs: Sequence[ComparedPair], hash_unit: Callable[[str], bytes], now: float) -> None:
        """Count pairs and write the blocks that contain them."""
        self._pending, self._next_seq = {}, self.seq
        start = block_start(now)
        first = self._first_of_unit(pairs, hash_unit, now)
        for compared, (first_of_unit, first_baseline) in zip(pairs, first, strict=True):
            primary, shadow = compared.pair.primary, compared.pair.shadow
            key = (primary.route, primary.variant, shadow.variant, start)
            block = self._pending.get(key) or self._load_block(key)
            block.add(compared.comparison, first_of_unit=first_of_unit, first_baseline_of_unit=first_baseline)
            self._pending[key] = block
        if not self._pending:
            return
        self._next_seq += 1
        self._connection.execute_many(
            "INSERT INTO evidence (route, primary_variant, shadow_variant, comparator, block, seq, counts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (route, primary_variant, shadow_variant, comparator, block)"
            " DO UPDATE SET seq = excluded.seq, counts = excluded.counts",
            [
                (*key[:3], VERSION, key[3], self._next_seq, json.dumps(block.to_json()))
                for key, block in self._pending.items()
            ],
        )

    def commit(self) -> None:
        """Adopt the written blocks as current, after the transaction was committed."""
        if self._pending:
            newest = max(key[3] for key in self._pending)
            current = {key: block for key, block in self._blocks.items() if key[3] >= newest}
            self._blocks = {**current, **self._pending}
            self.seq, self._pending = self._next_seq, {}

    def _load_block(self, key: _BlockKey) -> EvidenceBlock:
        """Return a copy of a block for further counting; a copy, because the transaction can fail."""
        cached = self._blocks.get(key)
        if cached is not None:
            return EvidenceBlock.from_json(cached.to_json())
        rows = self._connection.query(
            "SELECT counts FROM evidence WHERE route = ? AND primary_variant = ? AND shadow_variant = ?"
            " AND comparator = ? AND block = ?",
            (*key[:3], VERSION, key[3]),
        )
        return EvidenceBlock.from_json(json.loads(rows[0][0])) if rows else EvidenceBlock()

    def _first_of_unit(
        self, pairs: Sequence[ComparedPair], hash_unit: Callable[[str], bytes], now: float
    ) -> list[tuple[bool, bool]]:
        """Return two flags per pair: no earlier pair of its unit was counted, and none with a noise baseline.

        The flags are (True, True) for pairs without a unit and for pairs that the evidence excludes.
        """
        keys: list[_UnitKey | None] = []
        for compared in pairs:
            primary, shadow = compared.pair.primary, compared.pair.shadow
            unit = hash_unit(primary.unit) if primary.unit else b""
            keys.append((primary.route, primary.variant, shadow.variant, unit) if unit else None)
        seen = self._seen_units({key for key in keys if key is not None})
        first: list[tuple[bool, bool]] = []
        changed: dict[_UnitKey, int] = {}
        for compared, key in zip(pairs, keys, strict=True):
            if key is None or compared.comparison.client_left or compared.comparison.limited:
                first.append((True, True))
                continue
            seen_with_baseline = seen.get(key)
            first.append((seen_with_baseline is None, not seen_with_baseline))
            with_baseline = bool(seen_with_baseline) or has_baseline(compared.comparison)
            seen[key] = changed[key] = int(with_baseline)
        self._connection.execute_many(
            "INSERT INTO seen_units VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (route, primary_variant, shadow_variant, unit)"
            " DO UPDATE SET floored = excluded.floored, last_at = excluded.last_at",
            [(*key, with_baseline, now) for key, with_baseline in changed.items()],
        )
        return first

    def _seen_units(self, keys: set[_UnitKey]) -> dict[_UnitKey, int]:
        """Return which units were counted before; the value is 1 if a pair with a baseline was counted."""
        seen: dict[_UnitKey, int] = {}
        units = sorted({key[3] for key in keys})
        for start in range(0, len(units), _UNITS_PER_QUERY):
            chunk = units[start : start + _UNITS_PER_QUERY]
            placeholders = ", ".join("?" * len(chunk))
            rows: list[Any] = self._connection.query(
                "SELECT route, primary_variant, shadow_variant, unit, floored"  # noqa: S608 - placeholders only
                " FROM seen_units"
                f" WHERE unit IN ({placeholders})",
                chunk,
            )
            seen.update({(a, b, c, bytes(unit)): floored for a, b, c, unit, floored in rows})
        return seen
