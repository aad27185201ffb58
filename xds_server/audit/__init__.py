"""Who did what and why, in a chain that shows where it was tampered with (pure)."""

from xds_server.audit.chain import GENESIS, Anchor, Break, chained, hash_of, parse_anchor, verify
from xds_server.audit.deed import Deed, Entry, Outcome, entry_from_json, entry_to_json

__all__ = [
    "GENESIS",
    "Anchor",
    "Break",
    "Deed",
    "Entry",
    "Outcome",
    "chained",
    "entry_from_json",
    "entry_to_json",
    "hash_of",
    "parse_anchor",
    "verify",
]
