"""The audit table. An entry is appended in the same transaction as the change that it describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.access.audit import GENESIS, AuditEvent, Checkpoint, Entry, Outcome, next_entry

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

__all__ = ["append", "by_key", "following", "head", "head_and_last", "import_events", "newest"]

_EVENT_COLUMNS: Final = (
    "at",
    "actor",
    "via",
    "source",
    "action",
    "route",
    "reason",
    "outcome",
    "detail",
    "before",
    "after",
    "key",
    "digest",
)
_COLUMNS: Final = f"seq, {', '.join(_EVENT_COLUMNS)}, previous, hash"


_SINCE_CREATED: Final = (
    "seq > coalesce((SELECT max(gone.seq) FROM audit gone "
    "WHERE gone.route = audit.route AND gone.action = 'delete' AND gone.outcome <> 'refused'), 0)"
)


def head(db: sqlite3.Connection) -> Checkpoint:
    """Return the last entry according to `audit_head`, which is kept separately from the entries."""
    row = db.execute("SELECT seq, hash FROM audit_head").fetchone()
    return Checkpoint(seq=0, hash=GENESIS) if row is None else Checkpoint(seq=row[0], hash=row[1])


def head_and_last(db: sqlite3.Connection) -> tuple[Checkpoint, int]:
    """Return the head and the highest number of an entry, both read in one statement."""
    seq, head_hash, highest = db.execute(
        "SELECT (SELECT seq FROM audit_head), (SELECT hash FROM audit_head), (SELECT max(seq) FROM audit)"
    ).fetchone()
    return Checkpoint(seq=seq or 0, hash=head_hash or GENESIS), highest or 0


def append(db: sqlite3.Connection, event: AuditEvent) -> Entry:
    """Append an event to the chain; must run in a transaction."""
    entry = next_entry(event, head(db))
    values = [getattr(event, name) for name in _EVENT_COLUMNS if name != "outcome"]
    values.insert(_EVENT_COLUMNS.index("outcome"), event.outcome.value)
    placeholders = ", ".join("?" * (len(_EVENT_COLUMNS) + 3))
    db.execute(
        f"INSERT INTO audit ({_COLUMNS}) VALUES ({placeholders})",  # noqa: S608 - constant column names
        (entry.seq, *values, entry.previous, entry.hash),
    )
    db.execute(
        "INSERT INTO audit_head VALUES (1, ?, ?) "
        "ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        (entry.seq, entry.hash),
    )
    return entry


def newest(
    db: sqlite3.Connection,
    limit: int,
    *,
    route: str | None,
    routes: Collection[str] | None,
    before: int | None,
) -> tuple[Entry, ...]:
    """Return the newest entries, oldest first: of one route, of several, or of all.

    With `routes`, only entries since each route was last created are returned. The caller may see the current
    route, but not necessarily a deleted route of the same name.
    """
    where, values = ["TRUE"], list[object]()
    if route is not None:
        where.append("route = ?")
        values.append(route)
    if routes is not None:
        where += [f"route IN ({', '.join('?' * len(routes))})", _SINCE_CREATED]
        values += sorted(routes)
    if before is not None:
        where.append("seq < ?")
        values.append(before)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - placeholders
        (*values, limit),
    ).fetchall()
    return tuple(_entry(row) for row in reversed(rows))


def by_key(db: sqlite3.Connection, actor: str, key: str) -> tuple[Entry, ...]:
    """Return the entries of an actor under an idempotency key."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE actor = ? AND key = ? AND key <> '' ORDER BY seq",  # noqa: S608
        (actor, key),
    ).fetchall()
    return tuple(_entry(row) for row in rows)


def following(db: sqlite3.Connection, after: int, last: int, limit: int) -> tuple[Entry, ...]:
    """Return the next entries with `after` < number <= `last`, in order."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",  # noqa: S608 - constant names
        (after, last, limit),
    ).fetchall()
    return tuple(_entry(row) for row in rows)


def import_events(db: sqlite3.Connection) -> None:
    """Start the chain with the user actions in the history of versions that had no audit log."""
    rows = db.execute(
        "SELECT e.route, e.at, e.actor, coalesce(json_extract(e.event, '$.command'), "
        "CASE WHEN e.event IS NULL THEN 'delete' ELSE 'apply' END), "
        "coalesce(json_extract(e.event, '$.reason'), ''), "
        "coalesce((SELECT group_concat(message, '; ') FROM "
        "(SELECT message FROM records WHERE seq = e.seq ORDER BY place)), '') "
        "FROM events e WHERE e.event IS NULL OR json_extract(e.event, '$.kind') IN ('spec', 'command') "
        "ORDER BY e.seq"
    ).fetchall()
    for route, at, actor, action, reason, detail in rows:
        append(
            db,
            AuditEvent(
                at=at,
                actor=actor,
                action=action,
                route=route,
                reason=reason,
                detail=detail,
                outcome=Outcome.IMPORTED,
            ),
        )


def _entry(row: tuple[object, ...]) -> Entry:
    seq, *values, previous, own_hash = row
    fields = dict(zip(_EVENT_COLUMNS, values, strict=True))
    event = AuditEvent(**{**fields, "outcome": Outcome(fields["outcome"])})  # type: ignore[arg-type] # STRICT tables
    return Entry(seq=int(str(seq)), event=event, previous=str(previous), hash=str(own_hash))
