"""Audit events, and the hash chain that makes tampering with the audit log evident (pure)."""

from xds_server.access.audit.chain import (
    GENESIS,
    Break,
    Checkpoint,
    entry_hash,
    next_entry,
    parse_checkpoint,
    verify,
)
from xds_server.access.audit.events import AuditEvent, Entry, Outcome, entry_from_json, entry_to_json

__all__ = [
    "GENESIS",
    "AuditEvent",
    "Break",
    "Checkpoint",
    "Entry",
    "Outcome",
    "entry_from_json",
    "entry_hash",
    "entry_to_json",
    "next_entry",
    "parse_checkpoint",
    "verify",
]
