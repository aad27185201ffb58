"""Snapshots: encoded resources with content versions, checked references and a sending order (pure)."""

from xds_server.xds.snapshot.model import DanglingReferenceError, Snapshot, build, changes, with_runtime
from xds_server.xds.snapshot.resource import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    RUNTIME,
    TYPE_ORDER,
    VIRTUAL_HOST,
    WILDCARD_TYPES,
    Resource,
    short_name,
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
    "Resource",
    "Snapshot",
    "build",
    "changes",
    "short_name",
    "with_runtime",
]
