"""The location of a store: a file, or a database URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror_collector.store.connection import StoreError
from mirror_collector.store.sqlite import SqliteConnection

if TYPE_CHECKING:
    from mirror_collector.store.connection import Connection

__all__ = ["Location", "connect", "redact_password", "schema_version"]

Location = Path | str
"""Path of a SQLite file, or a URL ``postgresql://…``."""

_POSTGRES_URL: Final = re.compile(r"postgres(?:ql)?://", re.ASCII)
_PASSWORD: Final = re.compile(r"(?<=:)[^:@/]+(?=@)|(?<=password=)[^&]+")


def connect(location: Location, *, read_only: bool = False) -> Connection:
    """Connect to a store; raises StoreError."""
    text = str(location)
    if not _POSTGRES_URL.match(text):
        return SqliteConnection(Path(location), read_only=read_only)
    try:
        from mirror_collector.store.postgres import PostgresConnection  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise StoreError(
            "a store in PostgreSQL requires an extra package; install it with:"
            " pip install 'shiftplane[postgres]'"
        ) from error
    return PostgresConnection(text, read_only=read_only)


def schema_version(location: Location) -> int | None:
    """Return the schema version of a store without creating or changing it; None if there is no store.

    Raises:
        StoreError: The store cannot be opened.
    """
    if not _POSTGRES_URL.match(str(location)) and not Path(location).exists():
        return None
    connection = connect(location, read_only=True)
    try:
        return connection.schema_version()
    finally:
        connection.close()


def redact_password(location: Location) -> str:
    """Return the location as text, without its password."""
    return _PASSWORD.sub("[redacted]", str(location))
