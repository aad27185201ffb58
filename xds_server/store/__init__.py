"""Where rollouts are kept (I/O)."""

from xds_server.store.sqlite import ConflictError, SqliteStore, StoredEvent, StoredRoute, StoreError

__all__ = ["ConflictError", "SqliteStore", "StoreError", "StoredEvent", "StoredRoute"]
