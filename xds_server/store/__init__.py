"""Where rollouts are kept (I/O)."""

from xds_server.store.model import (
    Change,
    ConflictError,
    StoredAction,
    StoredBlock,
    StoredEvent,
    StoredRoute,
    StoredSpec,
    StoreError,
)
from xds_server.store.sqlite import SqliteStore

__all__ = [
    "Change",
    "ConflictError",
    "SqliteStore",
    "StoreError",
    "StoredAction",
    "StoredBlock",
    "StoredEvent",
    "StoredRoute",
    "StoredSpec",
]
