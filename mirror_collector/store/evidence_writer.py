"""Writing of evidence blocks, within the transaction of the pairs they count."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mirror_collector.compare import VERSION, EvidenceBlock, block_start, has_baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mirror_collector.compare import ComparedPair, Comparison
    from mirror_collector.exchange import Api
    from mirror_collector.store.connection import Connection

__all__ = [
    "EvidenceWriter",
    "UnitKey",
    "discard_units_of_other_versions",
    "first_of_unit",
    "unit_key",
    "write_units",
]

_BlockKey: TypeAlias = tuple[str, str, str, int]
"""Route, variant of the primary, variant of the shadow, start of the block."""

UnitKey: TypeAlias = tuple[str, str, str, bytes]
"""Route, variant of the primary, variant of the shadow, hash of the user or session and the API."""

_UNITS_PER_QUERY: Final = 200
_UNITS_VERSION: Final = "seen_units_comparator"


def unit_key(unit: bytes, api: Api) -> bytes:
    """Return the hash of a user or session with an API, from the keyed hash of the user or session."""
    return blake2b(api.value.encode(), key=unit, digest_size=16).digest()


def first_of_unit(seen: dict[UnitKey, int], key: UnitKey | None, comparison: Comparison) -> tuple[bool, bool]:
    """Return two flags for a pair, and add its user or session (the unit `key`) to `seen`.

    The first flag is whether no earlier pair of the unit was counted, the second whether no earlier pair of
    the unit with a noise baseline was counted. Both are True for a pair without a unit and for a pair that
    the evidence excludes. `seen` maps each counted unit to 1 if a pair with a baseline was counted, else 0.
    """
    if key is None or comparison.client_left or comparison.limited:
        return True, True
    with_baseline = seen.get(key)
    seen[key] = int(bool(with_baseline) or has_baseline(comparison))
    return with_baseline is None, not with_baseline


def write_units(connection: Connection, units: Mapping[UnitKey, int], now: float) -> None:
    """Store which units were counted, within the transaction of their pairs."""
    connection.execute_many(
        "INSERT INTO seen_units VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (route, primary_variant, shadow_variant, unit)"
        " DO UPDATE SET floored = excluded.floored, last_at = excluded.last_at",
        [(*key, with_baseline, now) for key, with_baseline in units.items()],
    )


def discard_units_of_other_versions(connection: Connection) -> None:
    """Delete the units counted by another version of the comparison.

    Evidence of different versions is never added up, so the current version has not counted these units yet.
    """
    rows = connection.query("SELECT value FROM meta WHERE name = ?", (_UNITS_VERSION,))
    if rows and rows[0][0] == str(VERSION):
        return
    with connection.transaction():
        connection.execute("DELETE FROM seen_units", ())
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (_UNITS_VERSION, str(VERSION)),
        )


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
        """Return a block to add counts to: a copy of the current one, because the transaction can fail."""
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
        """Return the flags of each pair, see `first_of_unit`, and store the units."""
        keys: list[UnitKey | None] = []
        for compared in pairs:
            primary, shadow = compared.pair.primary, compared.pair.shadow
            unit = unit_key(hash_unit(primary.unit), compared.comparison.api) if primary.unit else b""
            keys.append((primary.route, primary.variant, shadow.variant, unit) if unit else None)
        before = self._seen_units({key for key in keys if key is not None})
        seen = dict(before)
        first = [
            first_of_unit(seen, key, compared.comparison) for compared, key in zip(pairs, keys, strict=True)
        ]
        counted = {
            key
            for compared, key in zip(pairs, keys, strict=True)
            if key is not None and not (compared.comparison.client_left or compared.comparison.limited)
        }
        write_units(self._connection, {key: seen[key] for key in counted}, now)
        return first

    def _seen_units(self, keys: set[UnitKey]) -> dict[UnitKey, int]:
        """Return which units were counted before; the value is 1 if a pair with a baseline was counted."""
        seen: dict[UnitKey, int] = {}
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
