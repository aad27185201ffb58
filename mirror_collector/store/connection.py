"""What the store asks of a database, so that SQLite and PostgreSQL run the same statements.

Statements are written with ``?`` for values and in what both understand. Everything raises only `StoreError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

__all__ = ["Engine", "StoreError"]


class StoreError(Exception):
    """The store cannot be opened or used; the message says why."""


class Engine(Protocol):
    """One connection; belongs to the thread that opened it."""

    @property
    def session(self) -> int:
        """Grows whenever the connection had to be made anew: what was known may be out of date."""

    def prepare(self, version: int) -> None:
        """Make the tables, or bring those of an earlier version up to `version`; refuse any other."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""

    def many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of values."""

    def transaction(self) -> AbstractContextManager[None]:
        """All that is done within is kept together or not at all."""

    def size(self) -> int:
        """Bytes in use; room of what was deleted does not count where it is used again."""

    def shrink(self) -> None:
        """Give room of deleted rows back, as far as that can be done in passing."""

    def close(self) -> None:
        """Close the connection and let another process have the store."""
