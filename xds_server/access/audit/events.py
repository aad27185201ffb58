"""What is written down of something somebody did, or tried to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["AuditEvent", "Entry", "Outcome", "entry_from_json", "entry_to_json"]

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class Outcome(Enum):
    """What became of it."""

    DONE = "done"
    REFUSED = "refused"
    IMPORTED = "imported"
    """Done before there was a chain, by an earlier version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something somebody did or was refused; `at` in seconds since the epoch.

    `via` says how they came in and `source` from which address. `before` and `after` are JSON texts of how
    the route stood; empty where nothing changed. `key` and `digest` are the idempotency key of the request
    and a digest of what it asked for.
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
    """A deed in its place: `hash` covers it, its number and the hash of the one before."""

    seq: int
    deed: AuditEvent
    previous: str
    hash: str


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain JSON values; `before` and `after` as what they say."""
    deed = asdict(entry.deed) | {"outcome": entry.deed.outcome.value}
    for name in ("before", "after"):
        deed[name] = json.loads(deed[name]) if deed[name] else None
    return {"seq": entry.seq, **deed, "previous": entry.previous, "hash": entry.hash}


def entry_from_json(value: dict[str, Any]) -> Entry:
    """Return the entry `entry_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    rest = dict(value)
    seq, previous, own = rest.pop("seq"), rest.pop("previous"), rest.pop("hash")
    for name in ("before", "after"):
        rest[name] = "" if rest[name] is None else canonical(rest[name])
    deed = AuditEvent(**{**rest, "outcome": Outcome(rest["outcome"])})
    return Entry(seq=int(seq), deed=deed, previous=str(previous), hash=str(own))


def canonical(value: Any) -> str:
    """Return the one JSON text of a value, whoever writes it."""
    return _CANONICAL.encode(value)
