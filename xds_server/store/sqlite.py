"""Store the specs, states and history of all routes in one SQLite file.

An event and the state that follows from it are written in one transaction, and only if the newest event of
the route is the one the writer expects (optimistic locking): if two writers conflict, the second one gets a
ConflictError. When `commit` returns, the change is durable, also after kill -9 or a power failure. History is
append-only; deleting a route keeps its history.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Final

from xds_server.access.audit import verify
from xds_server.analysis.counts import (
    Counts,
    Leg,
    Role,
    add_counts,
    counts_from_json,
    counts_to_json,
)
from xds_server.analysis.verdicts import analyzed_block_from_json, analyzed_block_to_json
from xds_server.rollout import (
    Record,
    UnreadableError,
    event_from_json,
    event_to_json,
    state_from_json,
    state_to_json,
)
from xds_server.store import audit_log, delivery
from xds_server.store.file import StoreFile
from xds_server.store.model import (
    Change,
    ConflictError,
    Cursor,
    StoredBlock,
    StoredEvent,
    StoredRoute,
    StoredRouteEvent,
    StoredSpec,
    StoreError,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from xds_server.access.audit import AuditEvent, Break, Checkpoint, Entry
    from xds_server.rollout import Effect, Event

__all__ = ["SqliteStore"]

_AUDIT_PAGE: Final = 500
"""Audit entries that are read at a time while the lock is held."""


class SqliteStore:
    """A store with one file and one connection; any thread may call its methods, which run one at a time."""

    def __init__(
        self, path: Path | str, *, on_audited: Callable[[Checkpoint], None] = lambda _checkpoint: None
    ) -> None:
        """Open or create the file.

        `on_audited` receives the number and hash of each new audit entry after its commit, in the thread that
        wrote the entry.

        Raises:
            StoreError: The file cannot be opened, is not a store, or was written by a newer version.
        """
        self.file = StoreFile(path, on_audited=on_audited)

    def load(self) -> tuple[StoredRoute, ...]:
        """Return all routes.

        Raises:
            StoreError: The file cannot be read, or this version cannot read a stored state.
        """
        with self.file.reading() as db:
            rows = db.execute("SELECT name, seq, spec, file, state FROM routes ORDER BY name").fetchall()
        try:
            return tuple(
                StoredRoute(name=name, seq=seq, text=spec, file=file, state=state_from_json(state))
                for name, seq, spec, file, state in rows
            )
        except UnreadableError as error:
            raise StoreError(
                f"the store {self.file.path} contains the state of a route that this version of shiftplane "
                f"cannot read ({error}); run the version that wrote it, or restore a backup"
            ) from error

    def commit(self, *changes: Change) -> tuple[int, ...]:
        """Write events and the states that follow from them atomically; return the events' numbers.

        Raises:
            ConflictError: Another writer changed a route first.
            StoreError: The file cannot be written.
        """
        with self.file.writing() as db:
            return tuple(self._write_change(db, change) for change in changes)

    def delete(self, name: str, *, audit_event: AuditEvent) -> None:
        """Delete a route and its counts, and append the deletion to its history, which stays."""
        with self.file.writing() as db:
            record = Record(what="deleted", message="the route was deleted")
            seq = _insert(db, "events", route=name, at=audit_event.at, actor=audit_event.actor)
            self._insert_records(db, seq, (record,))
            for table, column in (("routes", "name"), ("blocks", "route"), ("days", "route")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))  # noqa: S608 - constant names
            self.file.audit(audit_event)

    def add_audit_event(self, event: AuditEvent) -> None:
        """Append an audit event for an action that changed no route or was refused."""
        with self.file.writing():
            self.file.audit(event)

    def head(self) -> Checkpoint:
        """Return the number and hash of the last entry of the audit log."""
        with self.file.reading() as db:
            return audit_log.head(db)

    def history(
        self, name: str, limit: int, before: int | None = None, *, whole: bool = True
    ) -> tuple[StoredEvent, ...]:
        """Return the newest `limit` records of a route's history, oldest first.

        With `before`, only records of events with a lower number are returned. Without `whole`, only records
        since the route was last created are returned.
        """
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT e.seq, e.at, e.actor, r.what, r.message, "
                "e.phase, e.generation, e.revision, e.weights "
                "FROM records r JOIN events e USING (seq) "
                "WHERE e.route = ? AND (? IS NULL OR e.seq < ?) AND (? OR e.seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0)) "
                "ORDER BY e.seq DESC, r.place DESC LIMIT ?",
                (name, before, before, whole, name, limit),
            ).fetchall()
        return tuple(delivery.stored_event(*row) for row in reversed(rows))

    def events_after(self, cursor: Cursor, limit: int) -> tuple[StoredRouteEvent, ...]:
        """Return the next records of all routes' histories after a cursor, oldest first."""
        with self.file.reading() as db:
            return delivery.events_after(db, cursor, limit)

    def load_cursors(self, targets: Collection[str]) -> dict[str, Cursor]:
        """Return the delivery cursor of each target; new targets start at the end of history.

        The cursors of all other targets are deleted.
        """
        with self.file.writing() as db:
            return delivery.load_cursors(db, targets)

    def save_cursors(self, cursors: Mapping[str, Cursor]) -> None:
        """Write the delivery cursors of targets.

        Raises:
            StoreError: The file cannot be written.
        """
        with self.file.writing() as db:
            delivery.save_cursors(db, cursors)

    def audit(
        self,
        limit: int,
        *,
        route: str | None = None,
        routes: Collection[str] | None = None,
        before: int | None = None,
    ) -> tuple[Entry, ...]:
        """Return the newest `limit` audit entries, oldest first: of one route, of several, or of all."""
        with self.file.reading() as db:
            return audit_log.newest(db, limit, route=route, routes=routes, before=before)

    def audit_by_key(self, actor: str, key: str) -> tuple[Entry, ...]:
        """Return the audit entries of an actor under an idempotency key."""
        with self.file.reading() as db:
            return audit_log.by_key(db, actor, key)

    def audit_breaks(self, checkpoints: Iterable[Checkpoint] = ()) -> tuple[int, list[Break]]:
        """Return the number of entries of the audit log, and the places where its chain is broken.

        The entries are read in pages, so that concurrent writes wait for one page only. Entries added during
        the verification are not verified.
        """
        with self.file.reading() as db:
            head, highest = audit_log.head_and_last(db)
        return head.seq, list(verify(self._entries(highest), head, checkpoints))

    def audit_following(self, after: int, last: int, limit: int) -> tuple[Entry, ...]:
        """Return the next audit entries with `after` < number <= `last`, in order."""
        with self.file.reading() as db:
            return audit_log.following(db, after, last, limit)

    def _entries(self, last: int) -> Iterator[Entry]:
        after = -1
        while page := self.audit_following(after, last, _AUDIT_PAGE):
            yield from page
            after = page[-1].seq

    def specs(self, name: str) -> tuple[StoredSpec, ...]:
        """Return the specs that a route accepted since it was last created, oldest first."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT generation, spec, file FROM events WHERE route = ? AND spec IS NOT NULL "
                "AND generation IS NOT NULL AND seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0) ORDER BY seq",
                (name, name),
            ).fetchall()
        return tuple(
            StoredSpec(generation=generation, text=text, file=file or "") for generation, text, file in rows
        )

    def events(self, name: str) -> tuple[tuple[Event, float], ...]:
        """Return each event since a route was last created, with the time of the event, oldest first.

        Replaying the events with `rollout.step` gives the stored state.
        """
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT event, at FROM events WHERE route = ? AND seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0) ORDER BY seq",
                (name, name),
            ).fetchall()
        return tuple((event_from_json(text), at) for text, at in rows)

    def save_blocks(self, blocks: Iterable[StoredBlock], *, drop_before: float) -> None:
        """Write blocks of counts, and delete blocks that ended before `drop_before`.

        Raises:
            StoreError: The file cannot be written.
        """
        rows = [
            (
                stored.route,
                stored.run,
                stored.block.start + stored.block.seconds,
                zlib.compress(json.dumps(analyzed_block_to_json(stored.analyzed)).encode()),
            )
            for stored in blocks
        ]
        with self.file.writing() as db:
            db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?)", rows)
            db.execute("DELETE FROM blocks WHERE at < ?", (drop_before,))

    def add_days(self, days: Mapping[tuple[str, Leg], Counts], *, drop_before: str) -> None:
        """Add counts to the totals of their day, and delete days before `drop_before`.

        Days are in UTC, such as 2026-01-31.

        Raises:
            StoreError: The file cannot be written.
        """
        with self.file.writing() as db:
            for (day, leg), counts in days.items():
                key = (leg.route, day, leg.variant, leg.role.value)
                row = db.execute(
                    "SELECT counts FROM days WHERE (route, day, variant, role) = (?, ?, ?, ?)", key
                ).fetchone()
                total = counts if row is None else add_counts(counts_from_json(json.loads(row[0])), counts)
                db.execute(
                    "INSERT INTO days VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (route, day, variant, role) DO UPDATE SET counts = excluded.counts",
                    (*key, json.dumps(counts_to_json(total))),
                )
            db.execute("DELETE FROM days WHERE day < ?", (drop_before,))

    def days(self, name: str) -> tuple[tuple[str, Leg, Counts], ...]:
        """Return the daily totals of a route's legs, oldest first."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT day, variant, role, counts FROM days WHERE route = ? ORDER BY day, variant, role",
                (name,),
            ).fetchall()
        return tuple(
            (day, Leg(route=name, variant=variant, role=Role(role)), counts_from_json(json.loads(counts)))
            for day, variant, role, counts in rows
        )

    def blocks(self, name: str, limit: int, run: int | None = None) -> tuple[StoredBlock, ...]:
        """Return the newest blocks of counts of a route, of one run or of all, oldest first."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT run, body FROM blocks WHERE route = ? AND (? IS NULL OR run = ?) "
                "ORDER BY at DESC, rowid DESC LIMIT ?",
                (name, run, run, limit),
            ).fetchall()
        found = (
            analyzed_block_from_json(json.loads(zlib.decompress(body)), run=block_run)
            for block_run, body in reversed(rows)
        )
        return tuple(
            StoredBlock(route=name, run=one.run, block=one.block, context=one.context) for one in found
        )

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _check_expected(self, db: sqlite3.Connection, name: str, expected: int | None) -> None:
        row = db.execute("SELECT seq FROM routes WHERE name = ?", (name,)).fetchone()
        found = None if row is None else row[0]
        if found != expected:
            raise ConflictError(
                f"route {name!r} was changed in the store meanwhile (newest event: {found or 'none'}, "
                f"expected: {expected or 'none'}); read the route again, and retry"
            )

    def _write_change(self, db: sqlite3.Connection, change: Change) -> int:
        self._check_expected(db, change.name, change.expected)
        state = change.state
        seq = _insert(
            db,
            "events",
            route=change.name,
            at=change.at,
            actor=change.actor,
            event=event_to_json(change.event),
            spec=change.text,
            file=change.file,
            phase=state.phase.value,
            generation=state.generation,
            revision=state.revision,
            weights=json.dumps(state.weights),
        )
        self._insert_records(db, seq, change.effects)
        if change.text is not None:
            db.execute(
                "INSERT INTO routes VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "seq = excluded.seq, spec = excluded.spec, file = excluded.file, state = excluded.state",
                (change.name, seq, change.text, change.file or "", state_to_json(state)),
            )
        else:
            db.execute(
                "UPDATE routes SET seq = ?, state = ? WHERE name = ?",
                (seq, state_to_json(state), change.name),
            )
        if change.audit_event is not None:
            self.file.audit(change.audit_event)
        return seq

    def _insert_records(self, db: sqlite3.Connection, seq: int, effects: tuple[Effect, ...]) -> None:
        records = [effect for effect in effects if isinstance(effect, Record)]
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?)",
            [(seq, place, record.what, record.message) for place, record in enumerate(records)],
        )


def _insert(db: sqlite3.Connection, table: str, **values: object) -> int:
    names, placeholders = ", ".join(values), ", ".join("?" * len(values))
    cursor = db.execute(f"INSERT INTO {table} ({names}) VALUES ({placeholders})", tuple(values.values()))  # noqa: S608 - constant names
    return int(cursor.lastrowid or 0)
