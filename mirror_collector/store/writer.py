"""The writing side of the store: one connection, one thread, one process.

A batch is one transaction: its pairs, the totals and the evidence that count them are stored together or not
at all. A process that is killed at any moment therefore neither loses a counted pair nor counts a pair twice.
Route and request id identify a pair; a pair that is already stored is not stored again.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare import (
    VERSION,
    CollectorTotals,
    ComparedPair,
    LegCounts,
    PairTotals,
    Replies,
    RouteTotals,
    compare,
)
from mirror_collector.exchange import Api, RouteName, UnpairedReason, Variant
from mirror_collector.store.codec import flags_of, leg_document, stored_messages, summary_document
from mirror_collector.store.encryption import MessageCipher
from mirror_collector.store.evidence_writer import (
    EvidenceWriter,
    discard_units_of_other_versions,
    unit_key,
)
from mirror_collector.store.location import connect
from mirror_collector.store.privacy import PrivacyPolicy
from mirror_collector.store.recompare import RecompareResult, recompare
from mirror_collector.store.retention import StoreLimits, delete_expired
from mirror_collector.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mirror_collector.compare.embedding import EmbeddingSimilarity
    from mirror_collector.exchange import Conversion, ExposureCounts, Feedback, Pair
    from mirror_collector.store.location import Location
    from mirror_collector.store.reader import StoreReader

__all__ = ["StoreLimits", "StoreWriter"]

_IDS_PER_QUERY: Final = 200


@dataclass(slots=True, kw_only=True)
class _Rows:
    """The rows a batch inserts."""

    pairs: list[tuple[Any, ...]] = field(default_factory=list)
    legs: list[tuple[Any, ...]] = field(default_factory=list)


class StoreWriter:
    """The open store; all methods belong to the thread that opened it and raise only `StoreError`."""

    def __init__(
        self,
        location: Location,
        limits: StoreLimits,
        privacy: PrivacyPolicy | None = None,
        cipher: MessageCipher | None = None,
        embedding: EmbeddingSimilarity | None = None,
    ) -> None:
        self._limits = limits
        self._privacy = privacy or PrivacyPolicy()
        self._cipher = cipher or MessageCipher()
        self._embedding = embedding
        self._totals = CollectorTotals()
        self._connection = connect(location)
        try:
            self._connection.migrate(SCHEMA_VERSION)
            discard_units_of_other_versions(self._connection)
            self._load_state()
            totals = self._totals.fork()
            if totals.count_lost_legs():
                with self._connection.transaction():
                    self._save_totals(totals)
                self._totals = totals
        except BaseException:
            self._connection.close()
            raise

    def _load_state(self) -> None:
        """Read totals, sequence numbers and the hash key: at the start, on a reconnect, after `recompare`."""
        self._connect_count = self._connection.connect_count
        self._totals = self._load_totals()
        meta = dict(self._connection.query("SELECT name, value FROM meta"))
        self._last_pair_id = int(meta["last_pair"])
        self._hash_key = bytes(self._connection.query("SELECT value FROM secrets WHERE name = 'units'")[0][0])
        self._evidence = EvidenceWriter(self._connection)

    @property
    def totals(self) -> CollectorTotals:
        """The stored totals."""
        return self._totals

    @property
    def evidence_seq(self) -> int:
        """Sequence number of the last evidence write."""
        return self._evidence.seq

    @property
    def store_id(self) -> str:
        """Permanent id of the store, derived from its hash key."""
        return blake2b(b"store", key=self._hash_key, digest_size=8).hexdigest()

    @property
    def size(self) -> int:
        """Used size of the store in bytes."""
        return self._connection.size()

    @property
    def oversize(self) -> bool:
        """Whether the store exceeds its maximum size."""
        return self.size > self._limits.max_size

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            if self._connect_count != self._connection.connect_count:
                # The connection was lost, so the last transaction may or may not have been committed.
                self._load_state()
            yield

    def write(
        self, pairs: Sequence[Pair], counts: LegCounts, now: float
    ) -> tuple[CollectorTotals, list[ComparedPair]]:
        """Compare and store pairs and add counts, in one transaction.

        Returns:
            The new totals, and the pairs that were not stored before.
        """
        compared_pairs = []
        for pair in pairs:
            replies = Replies.of(pair)
            comparison = compare(pair, replies, embedding=self._embedding)
            compared_pairs.append(ComparedPair(pair=pair, replies=replies, comparison=comparison))
        with self._transaction():
            totals = self._totals.fork()
            totals.add_counts(counts)
            known = self._stored_requests(pairs)
            rows, stored = _Rows(), list[ComparedPair]()
            repeated: Counter[tuple[RouteName, UnpairedReason]] = Counter()
            for compared in compared_pairs:
                pair = compared.pair
                key = (pair.primary.route, pair.primary.request_id)
                if key in known:
                    repeated[key[0], UnpairedReason.STORED_BEFORE] += len(pair.legs)
                    continue
                known.add(key)
                self._last_pair_id += 1
                totals.add_pair(pair, compared.comparison)
                stored.append(replace(compared, pair_id=self._last_pair_id))
                self._add_rows(rows, stored[-1], now)
            totals.add_counts(LegCounts(unpaired=repeated))
            self._insert(rows)
            self._evidence.add(stored, self.hash_unit, now)
            self._save_totals(totals)
        self._evidence.commit()
        self._totals = totals
        return totals, stored

    def _stored_requests(self, pairs: Sequence[Pair]) -> set[tuple[str, str]]:
        """Return the route and request id of those pairs that are stored already."""
        ids_by_route: dict[str, set[str]] = {}
        for pair in pairs:
            ids_by_route.setdefault(pair.primary.route, set()).add(pair.primary.request_id)
        stored: set[tuple[str, str]] = set()
        for route, ids in ids_by_route.items():
            sorted_ids = sorted(ids)
            for start in range(0, len(sorted_ids), _IDS_PER_QUERY):
                chunk = sorted_ids[start : start + _IDS_PER_QUERY]
                placeholders = ", ".join("?" * len(chunk))
                rows = self._connection.query(
                    "SELECT request_id FROM pairs"  # noqa: S608 - placeholders only
                    f" WHERE route = ? AND request_id IN ({placeholders})",
                    (route, *chunk),
                )
                stored |= {(route, request_id) for (request_id,) in rows}
        return stored

    def _add_rows(self, rows: _Rows, compared: ComparedPair, now: float) -> None:
        pair, comparison = compared.pair, compared.comparison
        primary, policy = pair.primary, self._privacy.for_route(pair.primary.route)
        rows.pairs.append(
            (
                compared.pair_id,
                primary.route,
                primary.request_id,
                primary.started_us / 1e6,
                now,
                comparison.similarity,
                orjson.dumps(summary_document(pair, comparison)).decode(),
                VERSION,
                primary.variant,
                pair.shadow.variant,
                flags_of(comparison),
                comparison.length_ratio,
                self.hash_unit(primary.unit) if primary.unit else None,
            )
        )
        replies = (compared.replies.primary, compared.replies.shadow, compared.replies.noise)
        for leg, reply in zip(pair.legs, replies, strict=False):
            if reply is None:
                continue
            # Copies usually have the same request body as the primary; it is stored only once.
            same_request = leg is not primary and leg.request.data == primary.request.data
            form, request, response = stored_messages(
                leg, reply, policy, hash_message=self._hash_message, same_request=same_request
            )
            if self._cipher.enabled:
                form = {**form, "sealed": True}
            document = {**leg_document(leg), "messages": form}
            rows.legs.append(
                (
                    compared.pair_id,
                    leg.role.value,
                    orjson.dumps(document).decode(),
                    self._cipher.encrypt(request),
                    self._cipher.encrypt(response),
                )
            )

    def _insert(self, rows: _Rows) -> None:
        if not rows.pairs:
            return
        self._connection.execute_many(
            "INSERT INTO pairs (id, route, request_id, started_at, stored_at, similarity, summary,"
            " comparator, primary_variant, shadow_variant, flags, length_ratio, unit)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows.pairs,
        )
        self._connection.execute_many(
            "INSERT INTO legs (pair_id, role, leg, request, response) VALUES (?, ?, ?, ?, ?)", rows.legs
        )
        self._connection.execute(
            "UPDATE meta SET value = ? WHERE name = 'last_pair'", (str(self._last_pair_id),)
        )

    def write_exposures(self, exposures: ExposureCounts, now: float) -> None:
        """Add exposures of A/B tests, in one transaction."""
        with self._transaction():
            self._connection.execute_many(
                "INSERT INTO exposures VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (route, experiment, unit, variant) DO UPDATE SET "
                "last_at = excluded.last_at, requests = exposures.requests + excluded.requests",
                [
                    (
                        *(exposure.route, exposure.experiment, self.hash_unit(exposure.unit)),
                        *(exposure.variant, now, now, requests),
                    )
                    for exposure, requests in exposures.requests.items()
                ],
            )

    def write_outcomes(
        self, conversions: Sequence[Conversion], feedback: Sequence[Feedback], now: float
    ) -> int:
        """Store conversions and feedback, in one transaction.

        Returns:
            Number of items of `feedback` that were stored before.
        """
        with self._transaction():
            self._connection.execute_many(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (route, metric, unit) DO UPDATE SET last_at = excluded.last_at",
                [(one.route, one.metric, self.hash_unit(one.unit), now, now) for one in conversions],
            )
            repeated = 0
            for one in feedback:
                unit = self.hash_unit(one.unit)
                repeated += not self._connection.execute(
                    "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    (
                        self._hash_message(one.id.encode()),  # the id can contain the name of a user
                        *(one.route, one.metric, one.request_id, unit, one.variant, one.value, now),
                    ),
                )
        return repeated

    def forget(self, *, request_id: str = "", unit: str = "") -> dict[str, int]:
        """Delete all data of a request, or of a user or session; return the number of rows by table."""
        deleted: Counter[str] = Counter()
        with self._transaction():
            if request_id:
                for table in ("pairs", "feedback"):
                    deleted[table] += self._connection.execute(
                        f"DELETE FROM {table} WHERE request_id = ?",  # noqa: S608 - fixed names
                        (request_id,),
                    )
            if unit:
                hashed = self.hash_unit(unit)
                for table in ("pairs", "exposures", "outcomes", "feedback"):
                    deleted[table] += self._connection.execute(
                        f"DELETE FROM {table} WHERE unit = ?",  # noqa: S608 - fixed names
                        (hashed,),
                    )
                for api in Api:
                    deleted["seen_units"] += self._connection.execute(
                        "DELETE FROM seen_units WHERE unit = ?", (unit_key(hashed, api),)
                    )
        return dict(deleted)

    def write_judgement(self, pair_id: int, prompt: str, model: str, judgement: str, now: float) -> None:
        """Store the judgement of a pair; does nothing if the pair was deleted."""
        with self._transaction():
            if self._connection.query("SELECT 1 FROM pairs WHERE id = ?", (pair_id,)):
                self._connection.execute(
                    "INSERT INTO judgements VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (pair_id, prompt, model, judgement, now),
                )

    def recompare(self, reader: StoreReader, progress: Callable[[int], None]) -> RecompareResult:
        """Compare all stored pairs again with the current comparison, in one transaction."""
        result = recompare(self._connection, reader, progress, self._embedding)
        self._load_state()
        return result

    def delete_expired(self, now: float) -> int:
        """Delete one batch of expired rows; return the number of deleted rows, 0 if none is left.

        While the store exceeds its maximum size, the oldest pairs are deleted, too.
        """
        return delete_expired(self._connection, self._limits, self._privacy, now, oversize=self.oversize)

    def hash_unit(self, unit: str) -> bytes:
        """Return the keyed hash of a user or session; empty for an empty unit."""
        return blake2b(unit.encode(), key=self._hash_key, digest_size=16).digest() if unit else b""

    def _hash_message(self, data: bytes) -> str:
        return blake2b(data, key=self._hash_key, digest_size=16).hexdigest()

    def close(self) -> None:
        """Close the store and release its lock."""
        self._connection.close()

    def _load_totals(self) -> CollectorTotals:
        query = self._connection.query
        return CollectorTotals(
            routes={
                RouteName(route): RouteTotals.from_json(json.loads(totals))
                for route, totals in query("SELECT route, tally FROM route_tallies")
            },
            pairs={
                (RouteName(route), Variant(primary), Variant(shadow)): PairTotals.from_json(
                    json.loads(totals)
                )
                for route, primary, shadow, totals in query(
                    "SELECT route, primary_variant, shadow_variant, tally FROM pair_tallies"
                    " WHERE comparator = ?",
                    (VERSION,),
                )
            },
            drops=dict(query("SELECT reason, n FROM drops")),
        )

    def _save_totals(self, totals: CollectorTotals) -> None:
        execute_many = self._connection.execute_many
        execute_many(
            "INSERT INTO route_tallies (route, tally) VALUES (?, ?)"
            " ON CONFLICT (route) DO UPDATE SET tally = excluded.tally",
            [(route, json.dumps(totals.routes[route].to_json())) for route in totals.changed_routes],
        )
        execute_many(
            "INSERT INTO pair_tallies (route, primary_variant, shadow_variant, comparator, tally)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (route, primary_variant, shadow_variant, comparator)"
            " DO UPDATE SET tally = excluded.tally",
            [(*key, VERSION, json.dumps(totals.pairs[key].to_json())) for key in totals.changed_pairs],
        )
        execute_many(
            "INSERT INTO drops (reason, n) VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET n = excluded.n",
            [(reason, totals.drops[reason]) for reason in totals.changed_drops],
        )
