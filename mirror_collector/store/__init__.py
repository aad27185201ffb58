"""The store: pairs, comparisons, evidence and totals in SQLite or PostgreSQL.

Writing and reading run on two threads; the event loop only awaits them.
"""

from __future__ import annotations

from mirror_collector.store.codec import FLAGS
from mirror_collector.store.connection import StoreError
from mirror_collector.store.encryption import MessageCipher
from mirror_collector.store.location import Location, redact_password, schema_version
from mirror_collector.store.privacy import MessageStorage, PrivacyPolicy, RoutePrivacyPolicy
from mirror_collector.store.reader import (
    Cursor,
    Order,
    Page,
    PairQuery,
    StoredEvidenceBlock,
    StoredExperiment,
    StoredFeedback,
    StoredLeg,
    StoredPair,
    StoreReader,
)
from mirror_collector.store.retention import StoreLimits
from mirror_collector.store.schema import SCHEMA_VERSION
from mirror_collector.store.store import Store
from mirror_collector.store.writer import StoreWriter

__all__ = [
    "FLAGS",
    "SCHEMA_VERSION",
    "Cursor",
    "Location",
    "MessageCipher",
    "MessageStorage",
    "Order",
    "Page",
    "PairQuery",
    "PrivacyPolicy",
    "RoutePrivacyPolicy",
    "Store",
    "StoreError",
    "StoreLimits",
    "StoreReader",
    "StoreWriter",
    "StoredEvidenceBlock",
    "StoredExperiment",
    "StoredFeedback",
    "StoredLeg",
    "StoredPair",
    "redact_password",
    "schema_version",
]
