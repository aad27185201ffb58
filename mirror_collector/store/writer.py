"""The writing side of the store: one connection, one thread, one process.

A batch is one transaction: its pairs, the tallies and the evidence that count them are stored together or not
at all, so a process that is killed at any moment neither loses a counted pair nor counts one twice. A pair is
known by its route and request id; what is there already is not stored again.
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
    ComparedPair,
    Counts,
    Ledger,
    PairTally,
    Replies,
    RouteTally,
    compare,
)
from mirror_collector.exchange import RouteName, UnpairedReason, Variant
from mirror_collector.store.codec import flags_of, kept_messages, leg_document, summary_document
from mirror_collector.store.encryption import Vault
from mirror_collector.store.evidence_writer import EvidenceWriter
from mirror_collector.store.location import connect
from mirror_collector.store.privacy import Privacy
from mirror_collector.store.recompare import Recompared, recompare
from mirror_collector.store.retention import StoreLimits, tidy
from mirror_collector.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mirror_collector.compare.embedding import Embedder
    from mirror_collector.exchange import Exposures, Feedback, Outcome, Pair
    from mirror_collector.store.location import Location
    from mirror_collector.store.reader import Reader

__all__ = ["Database", "StoreLimits"]

_ASK: Final = 200
"""Request ids asked for at once."""


@dataclass(slots=True, kw_only=True)
class _Rows:
    """What a batch adds."""

    pairs: list[tuple[Any, ...]] = field(default_factory=list)
    legs: list[tuple[Any, ...]] = field(default_factory=list)


class Database:
    """The open store; every method belongs to the thread that opened it and raises only `StoreError`."""

    def __init__(
        self,
        location: Location,
        limits: StoreLimits,
        privacy: Privacy | None = None,
        vault: Vault | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._limits = limits
        self._privacy = privacy or Privacy()
        self._vault = vault or Vault()
        self._embedder = embedder
        self._ledger = Ledger()
        self._engine = connect(location)
        try:
            self._engine.prepare(SCHEMA_VERSION)
            self._take_up()
            settled = self._ledger.fork()
            if settled.settle_lost():
                with self._engine.transaction():
                    self._save(settled)
                self._ledger = settled
        except BaseException:
            self._engine.close()
            raise

    def _take_up(self) -> None:
        """Read what is known; again after the connection was lost."""
        self._session = self._engine.session
        self._ledger = self._load()
        found = dict(self._engine.rows("SELECT name, value FROM meta"))
        self._last_pair = int(found["last_pair"])
        self._key = bytes(self._engine.rows("SELECT value FROM secrets WHERE name = 'units'")[0][0])
        self._evidence = EvidenceWriter(self._engine)

    @property
    def ledger(self) -> Ledger:
        """All sums, as stored."""
        return self._ledger

    @property
    def seq(self) -> int:
        """How often evidence was written."""
        return self._evidence.seq

    @property
    def name(self) -> str:
        """What tells this store from any other, for as long as it lives; says nothing of what is in it."""
        return blake2b(b"store", key=self._key, digest_size=8).hexdigest()

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._engine.size()

    @property
    def oversize(self) -> bool:
        """Whether it has outgrown its limit."""
        return self.size > self._limits.max_size

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._engine.transaction():
            if self._session != self._engine.session:
                # What was written last may or may not be there; what is there counts.
                self._take_up()
            yield

    def write(self, pairs: Sequence[Pair], counts: Counts, now: float) -> tuple[Ledger, list[ComparedPair]]:
        """Compare and store pairs and add counts; all or nothing.

        Returns:
            The new sums, and the pairs that were not there before.
        """
        compared = []
        for pair in pairs:
            replies = Replies.of(pair)
            found = compare(pair, replies, embedder=self._embedder)
            compared.append(ComparedPair(pair=pair, replies=replies, comparison=found))
        with self._writing():
            ledger = self._ledger.fork()
            ledger.add_counts(counts)
            known = self._known(pairs)
            rows, stored = _Rows(), list[ComparedPair]()
            repeated: Counter[tuple[RouteName, UnpairedReason]] = Counter()
            for one in compared:
                key = (one.pair.primary.route, one.pair.primary.request_id)
                if key in known:
                    repeated[key[0], UnpairedReason.STORED_BEFORE] += len(one.pair.legs)
                    continue
                known.add(key)
                self._last_pair += 1
                ledger.add_pair(one.pair, one.comparison)
                stored.append(replace(one, pair_id=self._last_pair))
                self._add_rows(rows, stored[-1], now)
            ledger.add_counts(Counts(unpaired=repeated))
            self._insert(rows)
            self._evidence.add(stored, self.hashed, now)
            self._save(ledger)
        self._evidence.commit()
        self._ledger = ledger
        return ledger, stored

    def _known(self, pairs: Sequence[Pair]) -> set[tuple[str, str]]:
        """Return which of the requests are stored already."""
        wanted: dict[str, set[str]] = {}
        for pair in pairs:
            wanted.setdefault(pair.primary.route, set()).add(pair.primary.request_id)
        known: set[tuple[str, str]] = set()
        for route, ids in wanted.items():
            listed = sorted(ids)
            for start in range(0, len(listed), _ASK):
                some = listed[start : start + _ASK]
                marks = ", ".join("?" * len(some))
                statement = f"SELECT request_id FROM pairs WHERE route = ? AND request_id IN ({marks})"  # noqa: S608 - marks only
                known |= {(route, found) for (found,) in self._engine.rows(statement, (route, *some))}
        return known

    def _add_rows(self, rows: _Rows, one: ComparedPair, now: float) -> None:
        pair, found = one.pair, one.comparison
        primary, policy = pair.primary, self._privacy.of(pair.primary.route)
        rows.pairs.append(
            (
                one.pair_id,
                primary.route,
                primary.request_id,
                primary.started_us / 1e6,
                now,
                found.similarity,
                orjson.dumps(summary_document(pair, found)).decode(),
                VERSION,
                primary.variant,
                pair.shadow.variant,
                flags_of(found),
                found.length_ratio,
                self.hashed(primary.unit) if primary.unit else None,
            )
        )
        replies = (one.replies.primary, one.replies.shadow, one.replies.noise)
        for leg, reply in zip(pair.legs, replies, strict=False):
            if reply is None:
                continue
            # Copies carry what the user sent; once is enough.
            same = leg is not primary and leg.request.data == primary.request.data
            note, request, response = kept_messages(
                leg, reply, policy.keep, policy.redaction, hashed=self._hash_of, same=same
            )
            if self._vault.sealing:
                note = {**note, "sealed": True}
            document = {**leg_document(leg), "messages": note}
            rows.legs.append(
                (
                    one.pair_id,
                    leg.role.value,
                    orjson.dumps(document).decode(),
                    self._vault.seal(request),
                    self._vault.seal(response),
                )
            )

    def _insert(self, rows: _Rows) -> None:
        if not rows.pairs:
            return
        self._engine.many(
            "INSERT INTO pairs (id, route, request_id, started_at, stored_at, similarity, summary,"
            " comparator, primary_variant, shadow_variant, flags, length_ratio, unit)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows.pairs,
        )
        self._engine.many(
            "INSERT INTO legs (pair_id, role, leg, request, response) VALUES (?, ?, ?, ?, ?)", rows.legs
        )
        self._engine.run("UPDATE meta SET value = ? WHERE name = 'last_pair'", (str(self._last_pair),))

    def write_exposures(self, exposures: Exposures, now: float) -> None:
        """Add requests to what is known of each unit; all or nothing."""
        with self._writing():
            self._engine.many(
                "INSERT INTO exposures VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (route, experiment, unit, variant) DO UPDATE SET "
                "last_at = excluded.last_at, requests = exposures.requests + excluded.requests",
                [
                    (one.route, one.experiment, self.hashed(one.unit), one.variant, now, now, requests)
                    for one, requests in exposures.requests.items()
                ],
            )

    def write_outcomes(self, outcomes: Sequence[Outcome], feedback: Sequence[Feedback], now: float) -> int:
        """Note who did what is counted, and what was said of answers; all or nothing.

        Returns:
            How many of `feedback` were there already.
        """
        with self._writing():
            self._engine.many(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (route, metric, unit) DO UPDATE SET last_at = excluded.last_at",
                [(one.route, one.metric, self.hashed(one.unit), now, now) for one in outcomes],
            )
            repeated = 0
            for one in feedback:
                unit = self.hashed(one.unit)
                repeated += not self._engine.run(
                    "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    (
                        self._hash_of(one.id.encode()),  # it may name a user
                        *(one.route, one.metric, one.request_id, unit, one.variant, one.value, now),
                    ),
                )
        return repeated

    def forget(self, *, request_id: str = "", unit: str = "") -> dict[str, int]:
        """Delete everything of a request or of a user or session; returns rows deleted, by table."""
        deleted: Counter[str] = Counter()
        with self._writing():
            if request_id:
                deleted["pairs"] += self._engine.run("DELETE FROM pairs WHERE request_id = ?", (request_id,))
                deleted["feedback"] += self._engine.run(
                    "DELETE FROM feedback WHERE request_id = ?", (request_id,)
                )
            if unit:
                for table in ("pairs", "exposures", "outcomes", "seen_units", "feedback"):
                    deleted[table] += self._engine.run(
                        f"DELETE FROM {table} WHERE unit = ?",  # noqa: S608 - one of those above
                        (self.hashed(unit),),
                    )
        return dict(deleted)

    def write_judgement(self, pair_id: int, prompt: str, model: str, judgement: str, now: float) -> None:
        """Keep what a judge said of a pair, unless that pair is gone."""
        with self._writing():
            if self._engine.rows("SELECT 1 FROM pairs WHERE id = ?", (pair_id,)):
                self._engine.run(
                    "INSERT INTO judgements VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (pair_id, prompt, model, judgement, now),
                )

    def recompare(self, reader: Reader, progress: Callable[[int], None]) -> Recompared:
        """Measure all stored pairs again by the present comparison; all or nothing."""
        done = recompare(self._engine, reader, progress, self._embedder)
        self._take_up()
        return done

    def tidy(self, now: float) -> int:
        """Delete one step's worth of what is too old or too much; returns rows deleted, 0 when done."""
        return tidy(self._engine, self._limits, self._privacy, now, oversize=self.oversize)

    def hashed(self, unit: str) -> bytes:
        """Return what is kept of a unit: enough to tell two apart, not who it is."""
        return blake2b(unit.encode(), key=self._key, digest_size=16).digest() if unit else b""

    def _hash_of(self, data: bytes) -> str:
        return blake2b(data, key=self._key, digest_size=16).hexdigest()

    def close(self) -> None:
        """Close it and let another process have it."""
        self._engine.close()

    def _load(self) -> Ledger:
        rows = self._engine.rows
        return Ledger(
            routes={
                RouteName(route): RouteTally.from_json(json.loads(tally))
                for route, tally in rows("SELECT route, tally FROM route_tallies")
            },
            pairs={
                (RouteName(route), Variant(primary), Variant(shadow)): PairTally.from_json(json.loads(tally))
                for route, primary, shadow, tally in rows(
                    "SELECT route, primary_variant, shadow_variant, tally FROM pair_tallies"
                    " WHERE comparator = ?",
                    (VERSION,),
                )
            },
            drops=dict(rows("SELECT reason, n FROM drops")),
        )

    def _save(self, ledger: Ledger) -> None:
        many = self._engine.many
        many(
            "INSERT INTO route_tallies (route, tally) VALUES (?, ?)"
            " ON CONFLICT (route) DO UPDATE SET tally = excluded.tally",
            [(route, json.dumps(ledger.routes[route].to_json())) for route in ledger.touched_routes],
        )
        many(
            "INSERT INTO pair_tallies (route, primary_variant, shadow_variant, comparator, tally)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (route, primary_variant, shadow_variant, comparator)"
            " DO UPDATE SET tally = excluded.tally",
            [(*key, VERSION, json.dumps(ledger.pairs[key].to_json())) for key in ledger.touched_pairs],
        )
        many(
            "INSERT INTO drops (reason, n) VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET n = excluded.n",
            [(reason, ledger.drops[reason]) for reason in ledger.touched_drops],
        )
