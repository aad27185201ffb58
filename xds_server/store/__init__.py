"""The SQLite store: rollouts and their history, counts, tokens, sessions and the audit log (I/O)."""

from xds_server.store.access import AccessStore
from xds_server.store.model import (
    Change,
    ConflictError,
    Cursor,
    StoredBlock,
    StoredEvent,
    StoredRoute,
    StoredRouteEvent,
    StoredSpec,
    StoreError,
)
from xds_server.store.sqlite import SqliteStore
from xds_server.store.threads import run_in_store_thread

__all__ = [
    "AccessStore",
    "Change",
    "ConflictError",
    "Cursor",
    "SqliteStore",
    "StoreError",
    "StoredBlock",
    "StoredEvent",
    "StoredRoute",
    "StoredRouteEvent",
    "StoredSpec",
    "run_in_store_thread",
]
