"""The database interface of the store; SQLite and PostgreSQL run the same statements.

Statements use ``?`` as placeholder and only SQL that both databases support. All methods raise only
`StoreError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

__all__ = ["Connection", "StoreError"]


class StoreError(Exception):
    """The store cannot be opened or used; the message gives the reason."""


class Connection(Protocol):
    """A connection to the database; belongs to the thread that opened it."""

    @property
    def connect_count(self) -> int:
        """Number of connections made so far; after a reconnect, state read earlier may be outdated."""

    def schema_version(self) -> int | None:
        """Return the version of the tables; None if the database contains no store."""

    def migrate(self, version: int) -> None:
        """Create the tables, or migrate those of an earlier version to `version`; reject other versions."""

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; return the number of changed rows."""

    def execute_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of values."""

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context manager that commits its block as one transaction, or rolls it back on error."""

    def size(self) -> int:
        """Return the size in bytes; the space of deleted rows counts in PostgreSQL, but not in SQLite."""

    def reclaim_space(self) -> None:
        """Return some of the space of deleted rows to the operating system, if that is cheap."""

    def close(self) -> None:
        """Close the connection and release the lock on the store."""
