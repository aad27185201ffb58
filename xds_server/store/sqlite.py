"""Specs, states and history of all routes in one SQLite file.

An event and the state it led to are written in one transaction, and only if the route's history ends where
the writer thinks it does: of two writers one loses, and knows it. What `commit` returned from is on the disk,
also after kill -9 or a power cut. History is never changed, not even by deleting a route.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xds_server.rollout import (
    Effect,
    Event,
    Record,
    State,
    UnreadableError,
    event_from_json,
    event_to_json,
    state_from_json,
    state_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ConflictError", "SqliteStore", "StoreError", "StoredEvent", "StoredRoute"]

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
)
_APPLICATION: Final = 0x53504C4E  # marks the file as ours


class StoreError(Exception):
    """Root of what the store refuses; the message says what to do.

    StoreError
    └── ConflictError   somebody else changed the route first
    """


class ConflictError(StoreError):
    """Somebody else changed the route first; read it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route as it was last kept; `seq` is the number of its newest event."""

    name: str
    seq: int
    text: str
    file: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One line of history. `event` is None for the deletion of a route."""

    seq: int
    at: float
    actor: str
    what: str
    message: str


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

    def commit(  # noqa: PLR0913 - what one change consists of
        self,
        name: str,
        *,
        expected: int | None,
        event: Event,
        actor: str,
        at: float,
        state: State,
        effects: tuple[Effect, ...],
        text: str | None = None,
        file: str | None = None,
    ) -> int:
        """Keep an event and the state it led to; return the event's number.

        `expected` is the number of the newest event the writer knows, None for a new route; `text` and `file`
        are the spec when the event brought one.

        Raises:
            ConflictError: The route's history ends elsewhere.
            StoreError: The disk is full or gone.
        """
        with self._writing() as db:
            self._expect(db, name, expected)
            seq = self._append(db, name, at, actor, event_to_json(event), text, effects)
            if text is not None:
                db.execute(
                    "INSERT INTO routes VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                    "seq = excluded.seq, spec = excluded.spec, file = excluded.file, state = excluded.state",
                    (name, seq, text, file or "", state_to_json(state)),
                )
            else:
                db.execute(
                    "UPDATE routes SET seq = ?, state = ? WHERE name = ?", (seq, state_to_json(state), name)
                )
        return seq

    def delete(self, name: str, *, at: float, actor: str) -> None:
        """Forget a route; its history stays, with the deletion as its last line."""
        with self._writing() as db:
            record = Record(what="deleted", message="the route was deleted")
            self._append(db, name, at, actor, None, None, (record,))
            db.execute("DELETE FROM routes WHERE name = ?", (name,))

    def history(self, name: str, limit: int) -> tuple[StoredEvent, ...]:
        """Return the newest `limit` lines of a route's history, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT e.seq, e.at, e.actor, r.what, r.message FROM records r JOIN events e USING (seq) "
                "WHERE e.route = ? ORDER BY e.seq DESC, r.place DESC LIMIT ?",
                (name, limit),
            ).fetchall()
        return tuple(
            StoredEvent(seq=seq, at=at, actor=actor, what=what, message=message)
            for seq, at, actor, what, message in reversed(rows)
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

    def _append(  # noqa: PLR0913, PLR0917 - one row
        self,
        db: sqlite3.Connection,
        name: str,
        at: float,
        actor: str,
        event: str | None,
        text: str | None,
        effects: tuple[Effect, ...],
    ) -> int:
        cursor = db.execute(
            "INSERT INTO events (route, at, actor, event, spec) VALUES (?, ?, ?, ?, ?)",
            (name, at, actor, event, text),
        )
        seq = int(cursor.lastrowid or 0)
        records = [effect for effect in effects if isinstance(effect, Record)]
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?)",
            [(seq, place, record.what, record.message) for place, record in enumerate(records)],
        )
        return seq
