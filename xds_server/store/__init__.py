"""Where rollouts are kept (I/O)."""

from xds_server.store.access import AccessStore
from xds_server.store.model import (
    Change,
    ConflictError,
    Mark,
    StoredBlock,
    StoredEvent,
    StoredLine,
    StoredRoute,
    StoredSpec,
    StoreError,
)
from xds_server.store.sqlite import SqliteStore
from xds_server.store.threads import soon

__all__ = [
    "AccessStore",
    "Change",
    "ConflictError",
    "Mark",
    "SqliteStore",
    "StoreError",
    "StoredBlock",
    "StoredEvent",
    "StoredLine",
    "StoredRoute",
    "StoredSpec",
    "soon",
]
