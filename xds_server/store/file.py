"""The SQLite file: its application id, schema migrations, one connection and one lock."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from xds_server.access.audit import Checkpoint
from xds_server.store import audit_log
from xds_server.store.model import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xds_server.access.audit import AuditEvent

__all__ = ["StoreFile"]

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
    CREATE TABLE audit (
      seq INTEGER PRIMARY KEY, at REAL NOT NULL, actor TEXT NOT NULL, via TEXT NOT NULL,
      source TEXT NOT NULL, action TEXT NOT NULL, route TEXT NOT NULL, reason TEXT NOT NULL,
      outcome TEXT NOT NULL, detail TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
      key TEXT NOT NULL, digest TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_of_route ON audit (route, seq);
    CREATE INDEX audit_by_key ON audit (actor, key) WHERE key <> '';
    CREATE TABLE audit_head (
      one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE tokens (
      id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, grants TEXT NOT NULL,
      created_at REAL NOT NULL, created_by TEXT NOT NULL, expires_at REAL NOT NULL, last_used_at REAL,
      first INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE sessions (
      digest TEXT PRIMARY KEY, name TEXT NOT NULL, via TEXT NOT NULL, grants TEXT NOT NULL,
      csrf TEXT NOT NULL, created_at REAL NOT NULL, seen_at REAL NOT NULL, expires_at REAL NOT NULL,
      token TEXT REFERENCES tokens (id) ON DELETE CASCADE
    ) STRICT;
    """,
    """
    CREATE TABLE notified (target TEXT PRIMARY KEY, seq INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE INDEX audit_deletions ON audit (route, seq) WHERE action = 'delete' AND outcome <> 'refused';
    """,
)
_DATA_MIGRATIONS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {4: audit_log.import_events}
"""Data migrations, by the number of the schema migration that they follow."""

_APPLICATION_ID: Final = 0x53504C4E  # identifies the file as a shiftplane store


class StoreFile:
    """An open store file; any thread may use it, and reads and writes run one at a time."""

    def __init__(
        self, path: Path | str, *, on_audited: Callable[[Checkpoint], None] = lambda _checkpoint: None
    ) -> None:
        """Open or create the file.

        `on_audited` receives the number and hash of each new audit entry after its commit, in the thread that
        wrote the entry.

        Raises:
            StoreError: The file cannot be opened, is not a store, or was written by a newer version.
        """
        self.path = path
        self._on_audited = on_audited
        self._uncommitted: list[Checkpoint] = []
        self._lock = threading.Lock()
        try:
            if path != ":memory:":
                # Specs contain system prompts, and sessions are stored here: a new file is private.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
            self._open()
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error  # The text of an OSError repeats the path.
            raise StoreError(f"the store {path} cannot be used: {reason}") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for reading, with the lock held; SQLite errors inside become StoreError."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise StoreError(f"the store {self.path} cannot be read: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction that commits on exit and rolls back if an exception is raised inside."""
        with self._lock:
            self._uncommitted = []
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreError(f"the store {self.path} cannot be written: {error}") from error
            committed = self._uncommitted
        for checkpoint in committed:
            self._on_audited(checkpoint)

    def audit(self, event: AuditEvent) -> None:
        """Append an event to the audit log; call this only inside `with writing()`."""
        entry = audit_log.append(self._db, event)
        self._uncommitted.append(Checkpoint(seq=entry.seq, hash=entry.hash))

    def _open(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and tables:
            raise StoreError(f"{self.path} is a database of another program; specify another file")
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer version of shiftplane (store format {version}; this "
                f"version reads formats up to {len(_MIGRATIONS)}); run the newer version, or restore a backup"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            pragmas = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {number};"
            self._db.executescript(f"BEGIN; {script} {pragmas}")
            try:
                if number in _DATA_MIGRATIONS:
                    _DATA_MIGRATIONS[number](self._db)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
