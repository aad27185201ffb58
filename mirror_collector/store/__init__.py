"""Pairs, comparisons, evidence and the ledger, kept in SQLite or PostgreSQL.

Writing and reading happen on threads of their own; the event loop only waits for them.
"""

from __future__ import annotations

from mirror_collector.store.codec import FLAGS
from mirror_collector.store.connection import StoreError
from mirror_collector.store.encryption import Vault
from mirror_collector.store.location import Location, shown
from mirror_collector.store.privacy import Keep, Privacy, RoutePrivacy
from mirror_collector.store.reader import (
    Cursor,
    Order,
    Page,
    PairQuery,
    Reader,
    StoredBlock,
    StoredExperiment,
    StoredFeedback,
    StoredLeg,
    StoredPair,
)
from mirror_collector.store.store import Store
from mirror_collector.store.writer import Database, StoreLimits

__all__ = [
    "FLAGS",
    "Cursor",
    "Database",
    "Keep",
    "Location",
    "Order",
    "Page",
    "PairQuery",
    "Privacy",
    "Reader",
    "RoutePrivacy",
    "Store",
    "StoreError",
    "StoreLimits",
    "StoredBlock",
    "StoredExperiment",
    "StoredFeedback",
    "StoredLeg",
    "StoredPair",
    "Vault",
    "shown",
]
