"""The store in a PostgreSQL database, in the schema given by ``search_path`` in the URL.

If the connection is lost, the current operation fails and the next one reconnects. Only one process can
write: it holds an advisory lock until its session ends.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from mirror_collector.store.connection import StoreError
from mirror_collector.store.schema import TABLES, for_postgres

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["PostgresConnection"]

_CONNECT_TIMEOUT: Final = 5
_LOCK_TIMEOUT: Final = 2.0
_LOCK: Final = (
    "SELECT pg_try_advisory_lock(hashtext('shiftplane.mirror_collector'), hashtext(current_schema()))"
)
_SET_STATEMENT_TIMEOUT: Final = "SET statement_timeout = '30s'"
"""The timeout keeps a server with a hanging disk from blocking the writer forever."""


class PostgresConnection:
    """A connection to a database."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect; raises StoreError."""
        self._url = url
        self._read_only = read_only
        self._statements: dict[str, str] = {}
        self._in_transaction = False
        self.connect_count = 0
        self.raw = self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        with _translate_errors("cannot connect to the store"):
            raw = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_TIMEOUT,
                application_name="mirror-collector",
            )
            try:
                raw.execute(_SET_STATEMENT_TIMEOUT)
                if self._read_only:
                    raw.execute("SET default_transaction_read_only = on")
                else:
                    _lock(raw)
            except BaseException:
                raw.close()
                raise
        self.connect_count += 1
        return raw

    def _open_connection(self) -> psycopg.Connection[Any]:
        if (self.raw.closed or self.raw.broken) and not self._in_transaction:
            self.raw = self._connect()
        return self.raw

    def schema_version(self) -> int | None:
        """Return the version of the tables; None if the schema contains no store."""
        if self.query("SELECT to_regclass('meta') IS NOT NULL") != [(True,)]:
            return None
        found = self.query("SELECT value FROM meta WHERE name = 'schema'")
        return int(found[0][0]) if found else None

    def migrate(self, version: int) -> None:
        """Create the tables in an empty schema; reject tables of another version."""
        with _translate_errors("cannot prepare the store"):
            exists = self.raw.execute("SELECT to_regclass('meta') IS NOT NULL").fetchone()
            if exists == (True,):
                found = self.raw.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
                if found != (str(version),):
                    if found is None:
                        raise StoreError(
                            "the schema contains a table `meta` of another program; select an empty schema"
                            " with ?options=-csearch_path%3DNAME in the URL"
                        )
                    raise StoreError(
                        f"schema version {found[0]} is not supported, only version {version} is; use the"
                        " release that wrote the store, or another store"
                    )
                return
            with self.transaction():
                self.raw.execute(sql.SQL(for_postgres(TABLES)))
                self.raw.execute("INSERT INTO meta VALUES ('schema', %s)", (str(version),))
                self.raw.execute("INSERT INTO secrets VALUES ('units', %s)", (secrets.token_bytes(32),))

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        with _translate_errors("cannot read the store"):
            return (
                self._open_connection()
                .execute(self._with_placeholders(statement), _without_nul(values))
                .fetchall()
            )

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; return the number of changed rows."""
        with _translate_errors("cannot write to the store"):
            return (
                self._open_connection()
                .execute(self._with_placeholders(statement), _without_nul(values))
                .rowcount
            )

    def execute_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of values, in pipeline mode."""
        with _translate_errors("cannot write to the store"), self._open_connection().cursor() as cursor:
            cursor.executemany(self._with_placeholders(statement), [_without_nul(row) for row in values])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block as one transaction; roll it back on error."""
        with _translate_errors("cannot write to the store"):
            raw = self._open_connection()
            self._in_transaction = True
            try:
                with raw.transaction():
                    yield
            finally:
                self._in_transaction = False

    def size(self) -> int:
        """Return the size of all tables and indexes in bytes, including space of deleted rows."""
        found = self.query(
            "SELECT COALESCE(SUM(pg_total_relation_size(oid)), 0)::BIGINT FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
        return int(found[0][0])

    def reclaim_space(self) -> None:
        """Do nothing; autovacuum reclaims space."""

    def close(self) -> None:
        """Close the connection, which releases the lock."""
        self.raw.close()

    def _run(self, statement: str, values: Sequence[Any]) -> psycopg.Cursor[Any]:
        return self._open_connection().execute(self._with_placeholders(statement), _without_nul(values))

    def _with_placeholders(self, statement: str) -> Any:
        found = self._statements.get(statement)
        if found is None:
            found = self._statements[statement] = statement.replace("?", "%s")
        return found


def _lock(raw: psycopg.Connection[Any]) -> None:
    """Lock out other writers; the writer caches the totals, so a second writer would overwrite them."""
    end = time.monotonic() + _LOCK_TIMEOUT
    while raw.execute(_LOCK).fetchone() != (True,):
        # The session of a killed process keeps the lock until the server detects the closed connection.
        if time.monotonic() > end:
            raise StoreError("another process writes to this store; stop that process or use another store")
        time.sleep(0.1)


def _without_nul(values: Sequence[Any]) -> list[Any]:
    """Replace NUL characters, which PostgreSQL rejects in text and untrusted names can contain."""
    return [
        value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value
        for value in values
    ]


@contextmanager
def _translate_errors(action: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise (error if str(error).startswith("cannot") else StoreError(f"{action}: {error}")) from error
    except (psycopg.Error, OSError) as error:
        raise StoreError(f"{action}: {' '.join(str(error).split())}") from error
