"""The writing side of the store: one connection, one thread, one process.

A batch is one transaction: its pairs and the tallies that count them are stored together or not at all, so a
process that is killed at any moment neither loses a counted pair nor counts one twice. A pair is known by its
route and request id; what is there already is not stored again.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare import VERSION, Counts, Ledger, PairTally, RouteTally, compare
from mirror_collector.exchange import RouteName, UnpairedReason, Variant
from mirror_collector.store.codec import leg_document, summary_document
from mirror_collector.store.schema import StoreError, connect, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mirror_collector.compare import Comparison
    from mirror_collector.exchange import Exposures, Outcome, Pair

__all__ = ["Database", "StoreLimits"]

_STEP: Final = 100
"""Pairs deleted in one transaction, so that writing never waits long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What is kept."""

    retention: float = 7 * 86_400.0
    """Seconds a pair is kept; tallies are kept for good."""

    exposure_retention: float = 90 * 86_400.0
    """Seconds after its last request that a unit of an A/B test is remembered."""

    max_size: int = 2 << 30
    """Bytes of the file; the oldest pairs go first."""


class Database:
    """The open store; every method belongs to the thread that opened it and raises only `StoreError`."""

    def __init__(self, path: Path, limits: StoreLimits) -> None:
        self._limits = limits
        self._key = b""
        with _translated(f"cannot open the store {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(path.name + ".lock").open("a")
            try:
                self._connection = self._open(path)
            except BaseException:
                self._lock.close()
                raise

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            # The ledger lives in memory, so a second writer would overwrite its sums.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError("another process uses it") from error
        connection = connect(path)
        try:
            prepare(connection)
            self._connection = connection
            self._ledger = self._load()
            settled = self._ledger.fork()
            if settled.settle_lost():
                with self._transaction():
                    self._save(settled)
                self._ledger = settled
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def ledger(self) -> Ledger:
        """All sums, as stored."""
        return self._ledger

    @property
    def size(self) -> int:
        """Bytes in use; pages of deleted pairs do not count, they are used again."""
        with _translated("cannot measure the store"):
            pages = self._pragma("page_count") - self._pragma("freelist_count")
            return pages * self._pragma("page_size")

    @property
    def oversize(self) -> bool:
        """Whether it has outgrown its limit."""
        return self.size > self._limits.max_size

    def write(self, pairs: Sequence[Pair], counts: Counts, now: float) -> Ledger:
        """Compare and store pairs, add counts, and return the new sums; all or nothing."""
        compared = [(pair, compare(pair)) for pair in pairs]
        ledger = self._ledger.fork()
        ledger.add_counts(counts)
        repeated: Counter[tuple[RouteName, UnpairedReason]] = Counter()
        with _translated("cannot write to the store"), self._transaction():
            for pair, found in compared:
                if self._insert(pair, found, now):
                    ledger.add_pair(pair, found)
                else:
                    repeated[pair.primary.route, UnpairedReason.STORED_BEFORE] += 2
            ledger.add_counts(Counts(unpaired=repeated))
            self._save(ledger)
        self._ledger = ledger
        return ledger

    def write_exposures(self, exposures: Exposures, now: float) -> None:
        """Add requests to what is known of each unit; all or nothing."""
        rows = [
            (one.route, one.experiment, self._hashed(one.unit), one.variant, now, now, requests)
            for one, requests in exposures.requests.items()
        ]
        with _translated("cannot write to the store"), self._transaction():
            self._connection.executemany(
                "INSERT INTO exposures VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (route, experiment, unit, variant) DO UPDATE SET "
                "last_at = excluded.last_at, requests = requests + excluded.requests",
                rows,
            )

    def write_outcomes(self, outcomes: Sequence[Outcome], now: float) -> None:
        """Note who did what is counted; all or nothing."""
        rows = [(one.route, one.metric, self._hashed(one.unit), now, now) for one in outcomes]
        with _translated("cannot write to the store"), self._transaction():
            self._connection.executemany(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (route, metric, unit) DO UPDATE SET last_at = excluded.last_at",
                rows,
            )

    def _hashed(self, unit: str) -> bytes:
        """Return what is kept of a unit: enough to tell two apart, not who it is."""
        if not unit:
            return b""
        if not self._key:
            (self._key,) = self._connection.execute(
                "SELECT value FROM secrets WHERE name = 'units'"
            ).fetchone()
        return blake2b(unit.encode(), key=self._key, digest_size=16).digest()

    def tidy(self, now: float) -> int:
        """Delete one step's worth of what is too old or too much; returns pairs deleted, 0 when done."""
        oldest = "SELECT id, stored_at FROM pairs ORDER BY id LIMIT ?"
        cutoff = now - self._limits.retention
        if self.oversize:
            cutoff = float("inf")
        with _translated("cannot tidy the store"):
            with self._transaction():
                deleted = self._connection.execute(
                    f"DELETE FROM pairs WHERE id IN (SELECT id FROM ({oldest}) WHERE stored_at < ?)",  # noqa: S608
                    (_STEP, cutoff),
                ).rowcount
                aged = "SELECT route, experiment, unit, variant FROM exposures WHERE last_at < ? LIMIT ?"
                deleted += self._connection.execute(
                    f"DELETE FROM exposures WHERE (route, experiment, unit, variant) IN ({aged})",  # noqa: S608
                    (now - self._limits.exposure_retention, _STEP),
                ).rowcount
                done = "SELECT route, metric, unit FROM outcomes WHERE last_at < ? LIMIT ?"
                deleted += self._connection.execute(
                    f"DELETE FROM outcomes WHERE (route, metric, unit) IN ({done})",  # noqa: S608
                    (now - self._limits.exposure_retention, _STEP),
                ).rowcount
            if deleted:
                self._connection.execute("PRAGMA incremental_vacuum(10000)").fetchall()
        return deleted

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._connection.close()
        self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk ends the transaction by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _insert(self, pair: Pair, found: Comparison, now: float) -> bool:
        primary = pair.primary
        cursor = self._connection.execute(
            "INSERT INTO pairs (route, request_id, started_at, stored_at, similarity, summary)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (route, request_id) DO NOTHING",
            (
                primary.route,
                primary.request_id,
                primary.started_us / 1e6,
                now,
                found.similarity,
                json.dumps(summary_document(pair, found)),
            ),
        )
        if cursor.rowcount != 1:
            return False
        pair_id = cursor.lastrowid
        self._connection.executemany(
            "INSERT INTO legs (pair_id, role, leg, request, response) VALUES (?, ?, ?, ?, ?)",
            [
                (pair_id, leg.role.value, json.dumps(leg_document(leg)), leg.request.data, leg.response.data)
                for leg in (primary, pair.shadow)
            ],
        )
        return True

    def _load(self) -> Ledger:
        rows = self._connection.execute
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
        self._connection.executemany(
            "INSERT INTO route_tallies (route, tally) VALUES (?, ?)"
            " ON CONFLICT (route) DO UPDATE SET tally = excluded.tally",
            [(route, json.dumps(ledger.routes[route].to_json())) for route in ledger.touched_routes],
        )
        self._connection.executemany(
            "INSERT INTO pair_tallies (route, primary_variant, shadow_variant, comparator, tally)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (route, primary_variant, shadow_variant, comparator)"
            " DO UPDATE SET tally = excluded.tally",
            [(*key, VERSION, json.dumps(ledger.pairs[key].to_json())) for key in ledger.touched_pairs],
        )
        self._connection.executemany(
            "INSERT INTO drops (reason, n) VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET n = excluded.n",
            [(reason, ledger.drops[reason]) for reason in ledger.touched_drops],
        )

    def _pragma(self, name: str) -> int:
        value: Any = self._connection.execute(f"PRAGMA {name}").fetchone()[0]
        return int(value)


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Say what went wrong in one exception type, with the cause chained."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{action}: {error}") from error
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{action}: {error}") from error
