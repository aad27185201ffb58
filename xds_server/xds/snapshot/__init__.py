"""Named bytes with content versions, checked references, and the order in which they travel (pure)."""

from xds_server.xds.snapshot.model import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    RUNTIME,
    TYPE_ORDER,
    VIRTUAL_HOST,
    WILDCARD_TYPES,
    DanglingReferenceError,
    Entry,
    Snapshot,
    build,
    changes,
    short_name,
    with_runtime,
)

__all__ = [
    "CLUSTER",
    "ENDPOINT",
    "LISTENER",
    "ROUTE",
    "RUNTIME",
    "TYPE_ORDER",
    "VIRTUAL_HOST",
    "WILDCARD_TYPES",
    "DanglingReferenceError",
    "Entry",
    "Snapshot",
    "build",
    "changes",
    "short_name",
    "with_runtime",
]
