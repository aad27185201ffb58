"""Where rollouts are kept (I/O)."""

from xds_server.store.model import (
    Change,
    ConflictError,
    Mark,
    StoredAction,
    StoredBlock,
    StoredEvent,
    StoredLine,
    StoredRoute,
    StoredSpec,
    StoreError,
)
from xds_server.store.sqlite import SqliteStore

__all__ = [
    "Change",
    "ConflictError",
    "Mark",
    "SqliteStore",
    "StoreError",
    "StoredAction",
    "StoredBlock",
    "StoredEvent",
    "StoredLine",
    "StoredRoute",
    "StoredSpec",
]
