"""Audit events: what a user did or attempted, and their JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["AuditEvent", "Entry", "Outcome", "entry_from_json", "entry_to_json"]

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class Outcome(Enum):
    """How an audited action ended."""

    DONE = "done"
    REFUSED = "refused"
    IMPORTED = "imported"
    """Done under an earlier version that had no audit log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """An action that a user performed, or that was refused; `at` is in seconds since the epoch.

    `via` is how the user authenticated, and `source` is the client address. `before` and `after` are JSON
    texts of the route's state; both are empty if nothing changed. `key` is the idempotency key of the
    request, and `digest` is a digest of its content.
    """

    at: float
    actor: str
    action: str
    route: str = ""
    reason: str = ""
    outcome: Outcome = Outcome.DONE
    detail: str = ""
    via: str = ""
    source: str = ""
    before: str = ""
    after: str = ""
    key: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An audit event in the chain.

    `previous` is the hash of the entry before it. `hash` covers the event, `seq` and `previous`.
    """

    seq: int
    event: AuditEvent
    previous: str
    hash: str


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON values; `before` and `after` are decoded."""
    fields = asdict(entry.event) | {"outcome": entry.event.outcome.value}
    for name in ("before", "after"):
        fields[name] = json.loads(fields[name]) if fields[name] else None
    return {"seq": entry.seq, **fields, "previous": entry.previous, "hash": entry.hash}


def entry_from_json(value: dict[str, Any]) -> Entry:
    """Return the entry that `entry_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: The value is not an entry.
    """
    rest = dict(value)
    seq, previous, own_hash = rest.pop("seq"), rest.pop("previous"), rest.pop("hash")
    for name in ("before", "after"):
        rest[name] = "" if rest[name] is None else canonical(rest[name])
    event = AuditEvent(**{**rest, "outcome": Outcome(rest["outcome"])})
    return Entry(seq=int(seq), event=event, previous=str(previous), hash=str(own_hash))


def canonical(value: Any) -> str:
    """Return the canonical JSON text of a value: sorted keys, no spaces."""
    return _CANONICAL.encode(value)
