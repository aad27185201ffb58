"""Who did what and why, in a chain that shows where it was tampered with (pure)."""

from xds_server.access.audit.chain import (
    GENESIS,
    Break,
    Checkpoint,
    chained,
    hash_of,
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
    "chained",
    "entry_from_json",
    "entry_to_json",
    "hash_of",
    "parse_checkpoint",
    "verify",
]
