"""The store in a file of SQLite."""

from __future__ import annotations

import fcntl
import secrets
import sqlite3
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from mirror_collector.store.connection import StoreError
from mirror_collector.store.schema import LATER, TABLES
from mirror_collector.store.schema import sqlite as spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Sqlite"]


class Sqlite:
    """A connection to a file; one that may write keeps all other processes from writing."""

    session = 1

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the file; raises StoreError."""
        self._lock: IO[str] | None = None
        with _translated(f"cannot open the store {path}"):
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = path.with_name(path.name + ".lock").open("a")
            try:
                self._take_lock()
                # Transactions are begun and ended by hand.
                self.raw = sqlite3.connect(path, isolation_level=None, timeout=5.0)
                self.raw.execute("PRAGMA foreign_keys = ON")
                if read_only:
                    self.raw.execute("PRAGMA query_only = ON")
            except BaseException:
                self._drop_lock()
                raise

    def _take_lock(self) -> None:
        if self._lock is None:
            return
        try:
            # The ledger lives in memory, so a second writer would overwrite its sums.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError("another process uses it") from error

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def prepare(self, version: int) -> None:
        """Create the tables in a new file, complete those of an earlier one, refuse any other."""
        with _translated("cannot prepare the store"):
            found = self._pragma("user_version")
            marks = f"PRAGMA user_version = {version};"
            if found == 0 and not self.raw.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                # Before the first table, or it has no effect: pages of deleted pairs go back to the disk.
                self.raw.execute("PRAGMA auto_vacuum = INCREMENTAL")
                self.raw.execute("PRAGMA journal_mode = WAL")
                # One transaction: a crash in the middle leaves an empty file, which is taken up again.
                key = f"INSERT INTO secrets VALUES ('units', x'{secrets.token_hex(32)}');"  # noqa: S608 - our own digits
                self.raw.executescript(f"BEGIN IMMEDIATE; {spelled(TABLES)} {key} {marks} COMMIT;")
            elif found in LATER:
                self.raw.executescript(f"BEGIN IMMEDIATE; {spelled(LATER[found])} {marks} COMMIT;")
            elif found != version:
                raise StoreError(f"its schema is version {found}, this program reads version {version}")
            self.raw.execute("PRAGMA journal_mode = WAL")
            self.raw.execute("PRAGMA synchronous = NORMAL")
            self.raw.execute(f"PRAGMA journal_size_limit = {64 << 20}")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        with _translated("cannot read the store"):
            return self.raw.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        with _translated("cannot write to the store"):
            return self.raw.execute(statement, values).rowcount

    def many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of values."""
        with _translated("cannot write to the store"):
            self.raw.executemany(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done within is kept together or not at all."""
        with _translated("cannot write to the store"):
            self.raw.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.raw.execute("COMMIT")
            except BaseException:
                # A full disk ends the transaction by itself.
                if self.raw.in_transaction:
                    self.raw.execute("ROLLBACK")
                raise

    def size(self) -> int:
        """Bytes in use; pages of deleted pairs do not count, they are used again."""
        with _translated("cannot measure the store"):
            pages = self._pragma("page_count") - self._pragma("freelist_count")
            return pages * self._pragma("page_size")

    def shrink(self) -> None:
        """Give pages of deleted rows back to the disk."""
        with _translated("cannot tidy the store"):
            self.raw.execute("PRAGMA incremental_vacuum(10000)").fetchall()

    def close(self) -> None:
        """Close the file and let another process have it."""
        self.raw.close()
        self._drop_lock()

    def _pragma(self, name: str) -> int:
        found: int = self.raw.execute(f"PRAGMA {name}").fetchone()[0]
        return found


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise (error if str(error).startswith("cannot") else StoreError(f"{what}: {error}")) from error
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{what}: {error}") from error
