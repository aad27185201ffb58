"""The store in a SQLite file."""

from __future__ import annotations

import fcntl
import secrets
import sqlite3
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from mirror_collector.store.connection import StoreError
from mirror_collector.store.schema import MIGRATIONS, TABLES, for_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["SqliteConnection"]


class SqliteConnection:
    """A connection to a SQLite file; a writable connection locks the file against other writers."""

    connect_count = 1

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the file; raises StoreError."""
        self._lock: IO[str] | None = None
        with _translate_errors(f"cannot open the store {path}"):
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = path.with_name(path.name + ".lock").open("a")
            try:
                self._acquire_lock()
                # With isolation level None, only explicit statements begin and end transactions.
                self.raw = sqlite3.connect(path, isolation_level=None, timeout=5.0)
                self.raw.execute("PRAGMA foreign_keys = ON")
                if read_only:
                    self.raw.execute("PRAGMA query_only = ON")
            except BaseException:
                self._release_lock()
                raise

    def _acquire_lock(self) -> None:
        if self._lock is None:
            return
        try:
            # The writer caches the totals in memory, so a second writer would overwrite them.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                "another process writes to this store; stop that process or use another store"
            ) from error

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def schema_version(self) -> int | None:
        """Return the version of the tables; None if the file contains no store."""
        with _translate_errors("cannot read the store"):
            return self._pragma("user_version") or None

    def migrate(self, version: int) -> None:
        """Create the tables in a new file, migrate those of an earlier version, reject any other file."""
        with _translate_errors("cannot prepare the store"):
            found = self._pragma("user_version")
            set_version = f"PRAGMA user_version = {version};"
            if found == 0 and not self.raw.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                # Lets `reclaim_space` shrink the file; only has an effect before the first table is created.
                self.raw.execute("PRAGMA auto_vacuum = INCREMENTAL")
                self.raw.execute("PRAGMA journal_mode = WAL")
                # One transaction: a crash leaves the file empty, and the next start creates the tables.
                key = f"INSERT INTO secrets VALUES ('units', x'{secrets.token_hex(32)}');"  # noqa: S608 - hex digits
                self.raw.executescript(f"BEGIN IMMEDIATE; {for_sqlite(TABLES)} {key} {set_version} COMMIT;")
            elif found in MIGRATIONS:
                self.raw.executescript(
                    f"BEGIN IMMEDIATE; {for_sqlite(MIGRATIONS[found])} {set_version} COMMIT;"
                )
            elif found != version:
                if found == 0:
                    raise StoreError("the file is a database of another program; specify another file")
                raise StoreError(
                    f"schema version {found} is not supported, only versions 1 to {version} are; use the"
                    " release that wrote the store, or another store"
                )
            self.raw.execute("PRAGMA journal_mode = WAL")
            self.raw.execute("PRAGMA synchronous = NORMAL")
            self.raw.execute(f"PRAGMA journal_size_limit = {64 << 20}")

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        with _translate_errors("cannot read the store"):
            return self.raw.execute(statement, values).fetchall()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; return the number of changed rows."""
        with _translate_errors("cannot write to the store"):
            return self.raw.execute(statement, values).rowcount

    def execute_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of values."""
        with _translate_errors("cannot write to the store"):
            self.raw.executemany(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block as one transaction; roll it back on error."""
        with _translate_errors("cannot write to the store"):
            self.raw.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.raw.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back the transaction if the disk is full.
                if self.raw.in_transaction:
                    self.raw.execute("ROLLBACK")
                raise

    def size(self) -> int:
        """Return the used size in bytes, without free pages, which SQLite reuses."""
        with _translate_errors("cannot read the size of the store"):
            pages = self._pragma("page_count") - self._pragma("freelist_count")
            return pages * self._pragma("page_size")

    def reclaim_space(self) -> None:
        """Return up to 10,000 free pages to the file system."""
        with _translate_errors("cannot shrink the store"):
            self.raw.execute("PRAGMA incremental_vacuum(10000)").fetchall()

    def close(self) -> None:
        """Close the file and release its lock."""
        self.raw.close()
        self._release_lock()

    def _pragma(self, name: str) -> int:
        found: int = self.raw.execute(f"PRAGMA {name}").fetchone()[0]
        return found


@contextmanager
def _translate_errors(action: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise (error if str(error).startswith("cannot") else StoreError(f"{action}: {error}")) from error
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{action}: {error}") from error
