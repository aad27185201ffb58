"""The store in a PostgreSQL database, in the schema the URL's ``search_path`` names.

A lost connection fails what was being done; the next use makes a new one. One process may write: it holds an
advisory lock for as long as its session lives.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from mirror_collector.store.connection import StoreError
from mirror_collector.store.schema import TABLES
from mirror_collector.store.schema import postgres as spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Postgres"]

_CONNECT_WITHIN: Final = 5
_LOCKED_FOR: Final = 2.0
_LOCK: Final = (
    "SELECT pg_try_advisory_lock(hashtext('shiftplane.mirror_collector'), hashtext(current_schema()))"
)
_PATIENCE: Final = "SET statement_timeout = '30s'"
"""A hung disk of the server must not hang the writer for good."""


class Postgres:
    """A connection to a database."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect; raises StoreError."""
        self._url = url
        self._read_only = read_only
        self._spelled: dict[str, str] = {}
        self._within = False
        self.session = 0
        self.raw = self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        with _translated("cannot connect to the store"):
            raw = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_WITHIN,
                application_name="mirror-collector",
            )
            try:
                raw.execute(_PATIENCE)
                if self._read_only:
                    raw.execute("SET default_transaction_read_only = on")
                else:
                    _lock(raw)
            except BaseException:
                raw.close()
                raise
        self.session += 1
        return raw

    def _alive(self) -> psycopg.Connection[Any]:
        if (self.raw.closed or self.raw.broken) and not self._within:
            self.raw = self._connect()
        return self.raw

    def prepare(self, version: int) -> None:
        """Create the tables in an empty schema; refuse those of another version."""
        with _translated("cannot prepare the store"):
            there = self.raw.execute("SELECT to_regclass('meta') IS NOT NULL").fetchone()
            if there == (True,):
                found = self.raw.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
                if found != (str(version),):
                    word = "another program's" if found is None else f"version {found[0]}"
                    raise StoreError(f"its schema is {word}, this program reads version {version}")
                return
            with self.transaction():
                self.raw.execute(sql.SQL(spelled(TABLES)))
                self.raw.execute("INSERT INTO meta VALUES ('schema', %s)", (str(version),))
                self.raw.execute("INSERT INTO secrets VALUES ('units', %s)", (secrets.token_bytes(32),))

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        with _translated("cannot read the store"):
            return self._alive().execute(self._spell(statement), _clean(values)).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        with _translated("cannot write to the store"):
            return self._alive().execute(self._spell(statement), _clean(values)).rowcount

    def many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of values, without waiting for each answer."""
        with _translated("cannot write to the store"), self._alive().cursor() as cursor:
            cursor.executemany(self._spell(statement), [_clean(row) for row in values])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done within is kept together or not at all."""
        with _translated("cannot write to the store"):
            raw = self._alive()
            self._within = True
            try:
                with raw.transaction():
                    yield
            finally:
                self._within = False

    def size(self) -> int:
        """Bytes of all tables and indexes; room of deleted rows counts until the server reuses it."""
        found = self.rows(
            "SELECT COALESCE(SUM(pg_total_relation_size(oid)), 0)::BIGINT FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
        return int(found[0][0])

    def shrink(self) -> None:
        """Leave it to autovacuum."""

    def close(self) -> None:
        """Close the connection, which lets go of the lock."""
        self.raw.close()

    def _spell(self, statement: str) -> Any:
        found = self._spelled.get(statement)
        if found is None:
            found = self._spelled[statement] = statement.replace("?", "%s")
        return found


def _lock(raw: psycopg.Connection[Any]) -> None:
    """Keep other writers away: the ledger lives in memory, so a second would overwrite its sums."""
    end = time.monotonic() + _LOCKED_FOR
    while raw.execute(_LOCK).fetchone() != (True,):
        # The session of a process that just died lives on until the server notices.
        if time.monotonic() > end:
            raise StoreError("another process uses it")
        time.sleep(0.1)


def _clean(values: Sequence[Any]) -> list[Any]:
    """PostgreSQL takes no zero byte in a text; hostile names may hold one."""
    return [
        value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value
        for value in values
    ]


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise (error if str(error).startswith("cannot") else StoreError(f"{what}: {error}")) from error
    except (psycopg.Error, OSError) as error:
        raise StoreError(f"{what}: {' '.join(str(error).split())}") from error
