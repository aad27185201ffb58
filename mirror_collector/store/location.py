"""The location of a store: a file, or a database URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror_collector.store.connection import StoreError
from mirror_collector.store.sqlite import SqliteConnection

if TYPE_CHECKING:
    from mirror_collector.store.connection import Connection

__all__ = ["Location", "connect", "redact_password"]

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


def redact_password(location: Location) -> str:
    """Return the location as text, without its password."""
    return _PASSWORD.sub("[redacted]", str(location))
