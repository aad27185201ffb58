"""Pairs, comparisons and the ledger, kept in SQLite.

Writing and reading happen on threads of their own; the event loop only waits for them.
"""

from __future__ import annotations

from mirror_collector.store.database import Database, StoreLimits
from mirror_collector.store.reader import (
    Order,
    Page,
    PairQuery,
    Reader,
    StoredExperiment,
    StoredLeg,
    StoredPair,
)
from mirror_collector.store.schema import StoreError
from mirror_collector.store.store import Store

__all__ = [
    "Database",
    "Order",
    "Page",
    "PairQuery",
    "Reader",
    "Store",
    "StoreError",
    "StoreLimits",
    "StoredExperiment",
    "StoredLeg",
    "StoredPair",
]
