"""Where rollouts are kept (I/O)."""

from xds_server.store.access import AccessStore
from xds_server.store.model import (
    Change,
    ConflictError,
    StoredBlock,
    StoredEvent,
    StoredRoute,
    StoredSpec,
    StoreError,
)
from xds_server.store.sqlite import SqliteStore

__all__ = [
    "AccessStore",
    "Change",
    "ConflictError",
    "SqliteStore",
    "StoreError",
    "StoredBlock",
    "StoredEvent",
    "StoredRoute",
    "StoredSpec",
]
