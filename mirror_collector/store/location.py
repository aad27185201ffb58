"""Where a store is: a file, or a database by URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror_collector.store.connection import StoreError
from mirror_collector.store.sqlite import Sqlite

if TYPE_CHECKING:
    from mirror_collector.store.connection import Engine

__all__ = ["Location", "connect", "shown"]

Location = Path | str
"""The path of a SQLite file, or ``postgresql://…``."""

_URL: Final = re.compile(r"postgres(?:ql)?://", re.ASCII)
_PASSWORD: Final = re.compile(r"(?<=:)[^:@/]+(?=@)|(?<=password=)[^&]+")


def connect(location: Location, *, read_only: bool = False) -> Engine:
    """Connect to a store; raises StoreError."""
    text = str(location)
    if not _URL.match(text):
        return Sqlite(Path(location), read_only=read_only)
    try:
        from mirror_collector.store.postgres import Postgres  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise StoreError("PostgreSQL needs the extra: pip install 'shiftplane[postgres]'") from error
    return Postgres(text, read_only=read_only)


def shown(location: Location) -> str:
    """Return it as it may be logged."""
    return _PASSWORD.sub("[redacted]", str(location))
