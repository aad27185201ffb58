"""Specs, states and history of all routes in one SQLite file.

An event and the state it led to are written in one transaction, and only if the route's history ends where
the writer thinks it does: of two writers one loses, and knows it. What `commit` returned from is on the disk,
also after kill -9 or a power cut. History is never changed, not even by deleting a route.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from xds_server.rollout import (
    Record,
    UnreadableError,
    event_from_json,
    event_to_json,
    state_from_json,
    state_to_json,
)
from xds_server.store import notified
from xds_server.store.model import (
    Change,
    ConflictError,
    Mark,
    StoredAction,
    StoredBlock,
    StoredEvent,
    StoredLine,
    StoredRoute,
    StoredSpec,
    StoreError,
)
from xds_server.telemetry import (
    Counts,
    Leg,
    Role,
    added,
    block_of_json,
    block_to_json,
    counts_of_json,
    counts_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from xds_server.rollout import Effect, Event

__all__ = ["SqliteStore"]

_MIGRATIONS: Final = (
    """
    CREATE TABLE routes (
      name TEXT PRIMARY KEY, seq INTEGER NOT NULL, spec TEXT NOT NULL, file TEXT NOT NULL, state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE events (
      seq INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL,
      event TEXT, spec TEXT
    ) STRICT;
    CREATE INDEX events_of_route ON events (route, seq);
    CREATE TABLE records (
      seq INTEGER NOT NULL REFERENCES events (seq), place INTEGER NOT NULL, what TEXT NOT NULL,
      message TEXT NOT NULL, PRIMARY KEY (seq, place)
    ) STRICT;
    """,
    """
    ALTER TABLE events ADD COLUMN phase TEXT;
    ALTER TABLE events ADD COLUMN generation INTEGER;
    ALTER TABLE events ADD COLUMN revision INTEGER;
    ALTER TABLE events ADD COLUMN weights TEXT;
    ALTER TABLE events ADD COLUMN file TEXT;
    """,
    """
    CREATE TABLE blocks (
      route TEXT NOT NULL, run INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX blocks_of_route ON blocks (route, at);
    CREATE INDEX blocks_by_age ON blocks (at);
    CREATE TABLE days (
      route TEXT NOT NULL, day TEXT NOT NULL, variant TEXT NOT NULL, role TEXT NOT NULL, counts TEXT NOT NULL,
      PRIMARY KEY (route, day, variant, role)
    ) STRICT;
    """,
    """
    CREATE TABLE notified (target TEXT PRIMARY KEY, seq INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
    """,
)
_APPLICATION: Final = 0x53504C4E  # marks the file as ours


class SqliteStore:
    """One file, one connection; methods may be called from any thread, one at a time."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the file.

        Raises:
            StoreError: It cannot be opened, is something else, or was written by a newer version.
        """
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
            self._open()
        except sqlite3.Error as error:
            raise StoreError(f"the store {path} cannot be used: {error}") from error

    def load(self) -> tuple[StoredRoute, ...]:
        """Return all routes.

        Raises:
            StoreError: A state was written by a version this one cannot read.
        """
        with self._reading() as db:
            rows = db.execute("SELECT name, seq, spec, file, state FROM routes ORDER BY name").fetchall()
        try:
            return tuple(
                StoredRoute(name=name, seq=seq, text=spec, file=file, state=state_from_json(state))
                for name, seq, spec, file, state in rows
            )
        except UnreadableError as error:
            raise StoreError(f"the store {self._path} holds a state of another version: {error}") from error

    def commit(self, *changes: Change) -> tuple[int, ...]:
        """Keep events and the states they led to, all of them or none; return the events' numbers.

        Raises:
            ConflictError: A route's history ends elsewhere.
            StoreError: The disk is full or gone.
        """
        with self._writing() as db:
            return tuple(self._keep(db, change) for change in changes)

    def delete(self, name: str, *, at: float, actor: str) -> None:
        """Forget a route; its history stays, with the deletion as its last line."""
        with self._writing() as db:
            record = Record(what="deleted", message="the route was deleted")
            seq = _insert(db, "events", route=name, at=at, actor=actor)
            self._record(db, seq, (record,))
            db.execute("DELETE FROM routes WHERE name = ?", (name,))

    def history(self, name: str, limit: int) -> tuple[StoredEvent, ...]:
        """Return the newest `limit` lines of a route's history, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT e.seq, e.at, e.actor, r.what, r.message, "
                "e.phase, e.generation, e.revision, e.weights "
                "FROM records r JOIN events e USING (seq) "
                "WHERE e.route = ? ORDER BY e.seq DESC, r.place DESC LIMIT ?",
                (name, limit),
            ).fetchall()
        return tuple(notified.event(*row) for row in reversed(rows))

    def lines(self, after: Mark, limit: int) -> tuple[StoredLine, ...]:
        """Return the lines of all routes' histories that follow another, oldest first."""
        with self._reading() as db:
            return notified.lines(db, after, limit)

    def marks(self, targets: Collection[str]) -> dict[str, Mark]:
        """Return up to which line each target was told; one not known before begins with what comes next.

        Targets that are not named are forgotten.
        """
        with self._writing() as db:
            return notified.marks(db, targets)

    def keep_marks(self, marks: Mapping[str, Mark]) -> None:
        """Keep up to which line targets were told.

        Raises:
            StoreError: The disk is full or gone.
        """
        with self._writing() as db:
            notified.keep(db, marks)

    def audit(self, limit: int, name: str | None = None) -> tuple[StoredAction, ...]:
        """Return the newest `limit` things somebody did, to one route or to any, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT e.seq, e.at, e.route, e.actor, coalesce(json_extract(e.event, '$.command'), "
                "CASE WHEN e.event IS NULL THEN 'delete' ELSE 'apply' END), "
                "coalesce(json_extract(e.event, '$.reason'), ''), "
                "coalesce((SELECT group_concat(message, '; ') FROM "
                "(SELECT message FROM records WHERE seq = e.seq ORDER BY place)), '') "
                "FROM events e WHERE (? IS NULL OR e.route = ?) AND "
                "(e.event IS NULL OR json_extract(e.event, '$.kind') IN ('spec', 'command')) "
                "ORDER BY e.seq DESC LIMIT ?",
                (name, name, limit),
            ).fetchall()
        return tuple(
            StoredAction(
                seq=seq, at=at, route=route, actor=actor, action=action, reason=reason, outcome=outcome
            )
            for seq, at, route, actor, action, reason, outcome in reversed(rows)
        )

    def specs(self, name: str) -> tuple[StoredSpec, ...]:
        """Return the specs a route was given since it was last created, oldest first."""
        with self._reading() as db:
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
        """Return every event of a route with its time, oldest first, since it was last created.

        Letting `rollout.step` take them one by one gives the kept state again.
        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT event, at FROM events WHERE route = ? AND seq > "
                "coalesce((SELECT max(seq) FROM events WHERE route = ? AND event IS NULL), 0) ORDER BY seq",
                (name, name),
            ).fetchall()
        return tuple((event_from_json(text), at) for text, at in rows)

    def keep_blocks(self, blocks: Iterable[StoredBlock], *, drop_before: float) -> None:
        """Keep blocks of counts, and drop those that ended before some time.

        Raises:
            StoreError: The disk is full or gone.
        """
        rows = [
            (
                stored.route,
                stored.run,
                stored.block.start + stored.block.seconds,
                zlib.compress(json.dumps(block_to_json(stored.block)).encode()),
            )
            for stored in blocks
        ]
        with self._writing() as db:
            db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?)", rows)
            db.execute("DELETE FROM blocks WHERE at < ?", (drop_before,))

    def add_days(self, days: Mapping[tuple[str, Leg], Counts], *, drop_before: str) -> None:
        """Add counts to those of their day (such as 2026-01-31, UTC), and drop days before another.

        Raises:
            StoreError: The disk is full or gone.
        """
        with self._writing() as db:
            for (day, leg), counts in days.items():
                key = (leg.route, day, leg.variant, leg.role.value)
                row = db.execute(
                    "SELECT counts FROM days WHERE (route, day, variant, role) = (?, ?, ?, ?)", key
                ).fetchone()
                total = counts if row is None else added(counts_of_json(json.loads(row[0])), counts)
                db.execute(
                    "INSERT INTO days VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (route, day, variant, role) DO UPDATE SET counts = excluded.counts",
                    (*key, json.dumps(counts_to_json(total))),
                )
            db.execute("DELETE FROM days WHERE day < ?", (drop_before,))

    def days(self, name: str) -> tuple[tuple[str, Leg, Counts], ...]:
        """Return what was counted of a route by day, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT day, variant, role, counts FROM days WHERE route = ? ORDER BY day, variant, role",
                (name,),
            ).fetchall()
        return tuple(
            (day, Leg(route=name, variant=variant, role=Role(role)), counts_of_json(json.loads(counts)))
            for day, variant, role, counts in rows
        )

    def blocks(self, name: str, limit: int, run: int | None = None) -> tuple[StoredBlock, ...]:
        """Return the newest blocks of a route, of one run or of all, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT run, body FROM blocks WHERE route = ? AND (? IS NULL OR run = ?) "
                "ORDER BY at DESC LIMIT ?",
                (name, run, run, limit),
            ).fetchall()
        return tuple(
            StoredBlock(route=name, run=of, block=block_of_json(json.loads(zlib.decompress(body))))
            for of, body in reversed(rows)
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _open(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and tables:
            raise StoreError(f"{self._path} is a database of something else; name another file")
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"{self._path} was written by a newer version (format {version}, this one knows "
                f"{len(_MIGRATIONS)}); run that version, or restore a backup"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {number};"
            self._db.executescript(f"BEGIN; {script} {marks} COMMIT;")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise StoreError(f"the store {self._path} cannot be read: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreError(f"the store {self._path} cannot be written: {error}") from error

    def _expect(self, db: sqlite3.Connection, name: str, expected: int | None) -> None:
        row = db.execute("SELECT seq FROM routes WHERE name = ?", (name,)).fetchone()
        found = None if row is None else row[0]
        if found != expected:
            raise ConflictError(
                f"route {name!r} is at event {found}, not {expected}: somebody changed it first"
            )

    def _keep(self, db: sqlite3.Connection, change: Change) -> int:
        self._expect(db, change.name, change.expected)
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
        self._record(db, seq, change.effects)
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
        return seq

    def _record(self, db: sqlite3.Connection, seq: int, effects: tuple[Effect, ...]) -> None:
        records = [effect for effect in effects if isinstance(effect, Record)]
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?)",
            [(seq, place, record.what, record.message) for place, record in enumerate(records)],
        )


def _insert(db: sqlite3.Connection, table: str, **values: object) -> int:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    cursor = db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - our own names
    return int(cursor.lastrowid or 0)
